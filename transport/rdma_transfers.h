// transport/rdma_transfers.h - the writes and reads that this side started with one peer: asked
// for in order inside a window, granted, posted, done; or cancelled on the way. Thread-confined.
#pragma once
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "transport/rdma_shared.h"

namespace terrace {

class RdmaTransfers {
 public:
  static constexpr uint32_t kReadsOutstandingMax = 256;

  RdmaTransfers(RdmaShared* shared, RdmaLink* link) : shared_(shared), link_(link) {}
  ~RdmaTransfers();

  // As in Transport, for this peer. A write of no bytes is not for here.
  Status write(const Transport::Write& write, Op* op);
  Status read(const Transport::Read& read, Op* op);
  /// Whether `op` was found.
  bool cancel(Op* op);
  uint64_t queued_bytes() const { return queued_bytes_; }
  bool borrows(std::span<const std::byte> memory) const;
  /// Something waits for the peer.
  bool waiting() const { return !active_.empty(); }

  /// Asks for what there is room for and posts what was granted; true when it has more to do at
  /// once and stopped for the turn's bound.
  bool pump();
  /// Something waits to be asked for, and the windows are open.
  bool asks_more() const;
  /// All transfers below it are finished.
  uint64_t unfinished() const { return active_.empty() ? next_id_ : active_.begin()->first; }

  // Answers of the peer. Non-OK ends the peer.
  Status granted(const RdmaRecord& record, std::span<const std::byte> body);
  Status refused(const RdmaRecord& record);
  Status landed(uint64_t id);
  void revoked(uint64_t id);
  /// The last request of a transfer is through.
  void completed(uint64_t id);

  void lane_lost(size_t path);
  /// Gives up what was cancelled and does not come free. When to come again, or Nanos::max().
  Nanos release_due(Nanos now);
  /// The peer is gone and so are its queue pairs: completes everything.
  void fail_all(const Status& why);

 private:
  enum class State : uint8_t { queued, asked, granted, posted, lost };
  struct Transfer {
    Op* op = nullptr;  // null: done already; what is left is ours
    bool is_write = false;
    bool cancelled = false;
    State state = State::queued;
    uint8_t path = 0;
    uint64_t tag = 0;
    uint64_t id = 0;
    uint32_t immediate = 0;
    uint32_t bytes = 0;
    std::vector<RemoteSpan> spans;
    std::vector<std::byte> body;
    std::vector<iovec> pieces;
    std::span<std::byte> bounce;  // empty: the pieces are registered, or not begun
    std::vector<iovec> from;      // what is posted: the pieces, or the bounce buffer
    std::vector<RdmaGrantEntry> grant;
    Nanos release_at = Nanos::max();
    // How far posting got.
    size_t entry = 0;
    size_t entry_done = 0;
    size_t piece = 0;
    size_t piece_done = 0;
  };
  enum class Posted : uint8_t { all, waits, lane_failed };
  using Active = std::map<uint64_t, std::unique_ptr<Transfer>>;

  Status queue(std::unique_ptr<Transfer> transfer, std::span<const iovec> local);
  void ask();
  bool post_granted();
  bool prepare(Transfer* transfer);
  Posted post(Transfer* transfer);
  uint32_t gather(Transfer* transfer, size_t device, uint32_t entry_left, std::span<ibv_sge> into,
                  size_t* count);
  void abandon(Transfer* transfer);
  void finish(Active::iterator it, Status result);
  void release(Transfer* transfer);
  bool all_local(const Transfer& transfer, size_t device) const;
  Transfer* find(uint64_t id);

  RdmaShared* const shared_;
  RdmaLink* const link_;
  std::deque<std::unique_ptr<Transfer>> queued_;
  Active active_;  // asked for and not finished, by id
  std::deque<uint64_t> to_post_;
  uint64_t next_id_ = 1;
  uint64_t queued_bytes_ = 0;
  uint64_t active_bodies_ = 0;
  uint32_t reads_ = 0;
  uint64_t bounced_this_turn_ = 0;
};
}  // namespace terrace
