// transport/shm_peer.h - one session over shared memory: a link for frames, an area per direction
// for bytes, and the memory files that the listening side lends. Thread-confined to the loop.
//
// Whoever has bytes puts them where the other can see them (or says where they lie in a file that
// it lent), and whoever wants them copies them out: no side ever writes into the other's memory. A
// copy is at most a frame's payload and happens whole within a turn, so nothing is ever half way
// when a transfer is cancelled or quiesced.
#pragma once
#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "transport/region_table.h"
#include "transport/shm_link.h"
#include "transport/shm_memory.h"
#include "transport/shm_options.h"
#include "transport/transport.h"

namespace terrace {

/// What of this side's memory peers may map. Loop thread.
class ShmExporter {
 public:
  struct File {
    Fd descriptor;  // read-only
    ShmFileFacts facts;
  };
  /// Where `memory` lies in a file that `peer` may see, whole; none: its bytes are copied.
  virtual std::optional<ShmPiece> locate(PeerId peer, std::span<const std::byte> memory) = 0;
  /// `file` as locate() named it. A number names the same memory for ever.
  virtual StatusOr<File> open(uint64_t file) = 0;

 protected:
  ~ShmExporter() = default;
};

/// What everything of one transport shares. Outlives it all.
struct ShmShared {
  Loop* loop = nullptr;
  TransportHandler* handler = nullptr;
  ShmOptions options;
  ShmExporter* exporter = nullptr;  // null: nothing is lent
  ShmMetrics metrics;
  RegionTable regions;
  Nanos urgent_until{0};
  std::vector<iovec> from, into;  // scratch
  std::vector<uint32_t> crc_runs, sums;
  uint32_t turn_bytes() const {
    return loop->now() < urgent_until ? options.turn_bytes_urgent : options.turn_bytes_max;
  }
};

class ShmPeer final : public ShmLink::Owner {
 public:
  static constexpr uint32_t kReadsOutstandingMax = 256;
  static constexpr uint32_t kLentMax = 256;   // transfers that the peer was told of
  static constexpr size_t kFilesMax = 65536;  // that one peer may be lent

  class Host {
   public:
    /// The peer has something to do: call work() later.
    virtual void schedule_work(ShmPeer* peer) = 0;
    /// The peer may be drained(): call finish() later, and forget it.
    virtual void schedule_finish() = 0;

   protected:
    ~Host() = default;
  };

  ShmPeer(PeerId id, ShmShared* shared, Host* host);
  ~ShmPeer();

  /// The side that called.
  Status connect(const SocketAddress& address, uid_t node_user,
                 const std::array<std::byte, 16>& secret, Nanos deadline, Op* op);
  /// The side that listens: takes over a link whose hello was there, and makes the areas.
  /// kResourceExhausted: the machine has not the memory; then the peer is closed.
  Status open(std::unique_ptr<ShmLink> link);

  PeerId id() const { return id_; }
  // As in Transport, for this peer.
  Status send_message(const Message& message);
  Status write(const Transport::Write& write, Op* op);
  Status read(const Transport::Read& read, Op* op);
  bool cancel(Op* op);
  void quiesce(uint64_t tag, Op* op);
  uint64_t queued_bytes() const { return waiting_bytes_ + lent_bytes_; }
  bool borrows(std::span<const std::byte> memory) const;

  /// Lends the peer what it has not got; the pieces, or nullopt when some of it lies elsewhere.
  std::optional<std::vector<ShmPiece>> lend(std::span<const iovec> memory);
  void retract(uint64_t file);
  /// The peer's file, as mapped here; null: none.
  std::shared_ptr<const ShmMapping> mapping(uint64_t file) const;

  /// Copies until about `bytes_max` are through; how many. More is left: schedules itself again.
  size_t work(size_t bytes_max);
  void flush() {
    if (link_ != nullptr) link_->flush();
  }
  bool work_scheduled = false;  // the host's

  void close(CloseReason reason, Status why);
  bool drained() const { return state_ == State::closing && (!link_ || link_->idle()); }
  void finish();
  /// Closes a peer that makes no progress.
  void tick();

 private:
  enum class State : uint8_t { connecting, open, closing, finished };
  /// A write of ours, or an answer to a read of the peer, that it has not been told of.
  struct Waiting {
    uint64_t tag = 0;
    uint32_t immediate = 0;
    uint64_t answers = 0;             // not 0: the ref of the peer's read
    std::vector<RemoteSpan> spans{};  // targets of a write; of an answer our regions, pinned
    std::vector<std::byte> body{};
    std::vector<iovec> from{};
    uint64_t bytes = 0;
    Op* op = nullptr;
  };
  /// What the peer was told of and has not said done.
  struct Lent {
    Op* op = nullptr;  // of a write out of a file; others are done when they are in the area
    uint64_t slots = 0;
    uint64_t bytes = 0;
    bool counted = false;  // in lent_bytes_
    Nanos since{0};
    Nanos release_by{0};  // not 0: cancelled
  };
  struct PendingRead {
    Op* op = nullptr;  // null: cancelled
    std::vector<iovec> into{};
    uint64_t bytes = 0;
  };
  /// What the peer told us of: a write, or the answer to a read of ours.
  struct Job {
    uint64_t tag = 0;
    uint32_t immediate = 0;
    ShmTransfer transfer{};
    std::vector<std::byte> body{};
  };

  // ShmLink::Owner
  Status frame_arrived(ShmLink* link, const FrameHeader& header,
                       std::span<const std::byte> body) override;
  void connected(ShmLink* link) override;
  void failed(ShmLink* link, CloseReason reason, Status why) override;
  void closed(ShmLink* link) override;

  // shm_peer_receive.cc: what frames of the peer do, and the copies that follow
  Status areas_arrived();
  Status message_arrived(const FrameHeader& header, std::span<const std::byte> body);
  Status transfer_arrived(const FrameHeader& header, std::span<const std::byte> body);
  Status read_asked(const FrameHeader& header, const ShmTransfer& transfer);
  Status read_refused(const FrameHeader& header);
  Status lent_done(const FrameHeader& header);
  Status cancel_asked(uint64_t ref);
  Status file_arrived(const FrameHeader& header, std::span<const std::byte> body);
  Status take_job(Job job);
  Status land_write(Job* job);
  Status take_answer(Job* job);
  /// kInvalidArgument: a piece of no file, or outside of it.
  Status find_pieces(std::span<const ShmPiece> pieces, std::vector<iovec>* out) const;
  void say_done(uint64_t ref, StatusCode code);

  /// Bytes that it copied for that; nullopt: what waits must wait on.
  std::optional<size_t> send_next();
  void tell(Waiting* next, std::vector<ShmPiece> pieces, uint64_t slots);
  void end_waiting(Waiting* waiting, Status result);
  Status map_file(Fd file, const ShmFileFacts& facts, bool writable, ShmMapping* into);
  Status still_open() const;
  void schedule_work() { host_->schedule_work(this); }
  void count_area(uint64_t bytes) {
    area_bytes_ += bytes;
    shared_->metrics.area_bytes.add(bytes);
  }
  void end_connect(Status result);
  void expire();

  const PeerId id_;
  ShmShared* const shared_;
  Host* const host_;
  State state_ = State::connecting;
  bool was_open_ = false;
  std::unique_ptr<ShmLink> link_;
  uid_t node_user_ = 0;
  std::array<std::byte, 16> secret_{};
  Op* connect_op_ = nullptr;
  uint64_t next_ref_ = 1;
  ShmArea area_;  // ours: the peer copies out of it
  uint64_t area_bytes_ = 0;
  ShmMapping peer_area_;  // the peer's: we copy out of it
  std::deque<Waiting> waiting_;
  uint64_t waiting_bytes_ = 0;
  uint32_t serving_ = 0;  // answers among waiting_
  std::map<uint64_t, Lent> lent_;
  uint64_t lent_bytes_ = 0;
  std::map<uint64_t, PendingRead> reads_;
  std::deque<Job> jobs_;
  size_t job_body_bytes_ = 0;
  std::set<uint64_t> files_lent_;
  std::map<uint64_t, std::shared_ptr<const ShmMapping>> files_;  // of the peer
  Status why_;
  Timer deadline_{[this] { expire(); }};
};
}  // namespace terrace
