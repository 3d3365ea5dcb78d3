// transport/rdma_peer.h - one peer over RDMA: its paths (a message and a data queue pair per pair
// of ports), the frames that survive the loss of a path, and the two halves of its transfers.
// Thread-confined to the loop.
#pragma once
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "transport/rdma_grants.h"
#include "transport/rdma_stream.h"
#include "transport/rdma_transfers.h"

namespace terrace {

class RdmaPeer final : public RdmaLink, public RdmaInStream::Sink {
 public:
  using Secret = std::array<std::byte, 16>;
  class Host {
   public:
    /// The peer queued something: call pump() later.
    virtual void schedule_pump(RdmaPeer* peer) = 0;
    /// The peer may be drained(): call finish() later, and forget it.
    virtual void schedule_finish() = 0;

   protected:
    ~Host() = default;
  };

  RdmaPeer(PeerId id, RdmaShared* shared, Host* host, const Secret& secret, bool accepted);
  ~RdmaPeer();

  /// Makes the queue pairs of the first `paths` ports. kResourceExhausted.
  Status make_paths(size_t paths);
  /// How the other side reaches them.
  RdmaEndpoint endpoint() const;
  /// Connects them to those of the other side, which may have fewer. The side that called says
  /// hello, and `op` is done with the outcome; `op` is null on the side that accepted.
  /// kUnavailable.
  Status connect(const RdmaEndpoint& remote, Nanos deadline, Op* op);

  const Secret& secret() const { return secret_; }
  bool accepted() const { return accepted_; }
  bool established() const { return state_ != State::offered; }

  // As in Transport, for this peer.
  Status send_message(const Message& message);
  Status write(const Transport::Write& write, Op* op);
  Status read(const Transport::Read& read, Op* op);
  bool cancel(Op* op) { return transfers_.cancel(op); }
  void quiesce(uint64_t tag, Op* op);
  uint64_t queued_bytes() const { return transfers_.queued_bytes(); }
  bool borrows(std::span<const std::byte> memory) const { return transfers_.borrows(memory); }

  /// Sends what is queued and posts what was granted.
  void pump();
  bool pump_scheduled = false;  // the host's

  // What the devices say.
  void frame_came(std::span<const std::byte> frame);
  void completed(size_t path, RdmaLane::Kind kind, const ibv_wc& completion);
  void port_lost(size_t path, const Status& why) { path_lost(path, why); }
  /// What was being registered no longer is.
  void memory_settled() {
    if (is_open()) grants_.try_held();
  }

  void close(CloseReason reason, Status why, bool tell = true);
  /// Closed, and the other side was told or cannot be.
  bool drained() const;
  /// Destroys the queue pairs, completes every operation, tells the handler. Once, when drained().
  void finish();
  /// Called every `interval`: keeps idle paths tested, closes a peer that makes no progress.
  void tick(Nanos interval);

  // RdmaLink
  bool is_open() const override { return state_ == State::open; }
  PeerId id() const override { return id_; }
  void send_step(RdmaRecord record, std::span<const std::byte> body,
                 std::span<const std::byte> body_rest) override;
  size_t step_bytes() const override { return out_.step_bytes(); }
  size_t paths() const override { return paths_.size(); }
  RdmaLane* data_lane(size_t path) override;
  uint32_t generation(size_t path) const override { return paths_[path].generation; }
  void reset_lane(size_t path) override;
  void schedule_pump() override { host_->schedule_pump(this); }
  void arm_release(Nanos at) override;

 private:
  enum class State : uint8_t { offered, greeting, open, closing, finished };
  struct Path {
    RdmaDevice* device = nullptr;
    bool alive = true;
    bool data_connected = false;
    uint32_t generation = 1;  // of the data lane; both sides count alike
    std::unique_ptr<RdmaLane> message;
    std::unique_ptr<RdmaLane> data;
    VerbsMemory frames;  // of the frames to send, with this device
    RdmaPathEndpoint remote;
    Nanos probe_in{0};
  };

  // rdma_peer_paths.cc: queue pairs that come and go
  StatusOr<std::unique_ptr<RdmaLane>> make_lane(size_t path, RdmaLane::Kind kind);
  void drop_lane(size_t path, std::unique_ptr<RdmaLane>* lane);
  void drop_path(size_t path);
  void path_lost(size_t path, const Status& why);
  void announce_loss(size_t path);
  void retire_data_lane(size_t path);
  Status lane_record(const RdmaRecord& record);
  void lane_failed(size_t path, RdmaLane::Kind kind, const ibv_wc& completion);
  void probe(Path* path);

  // RdmaInStream::Sink
  Status record_came(const RdmaRecord& record, std::span<const std::byte> body) override;
  Status greeted(const RdmaRecord& record, std::span<const std::byte> body);
  Status transfer_record(const RdmaRecord& record, std::span<const std::byte> body);

  Path* message_path();
  void pump_frames();
  bool post_frame(uint64_t sequence);
  bool post_bare(Path* path, bool goodbye);
  bool post_bytes(Path* path, std::span<std::byte> frame, bool tell);
  std::span<std::byte> frame_at(size_t index);
  void end_connect(Status result);
  void release_fired();

  const PeerId id_;
  RdmaShared* const shared_;
  Host* const host_;
  const Secret secret_;
  const bool accepted_;
  State state_ = State::offered;
  std::vector<Path> paths_;
  RdmaTransfers transfers_;
  RdmaGrants grants_;
  RdmaOutStream out_;
  RdmaInStream in_;
  AlignedBuffer frames_;  // a ring of those not acknowledged, and a few that are not counted
  std::array<uint32_t, kRdmaFrameWindow> frame_bytes_{};
  uint64_t sent_ = 0;
  uint64_t acknowledged_ = 0;  // of what we sent
  uint64_t received_ = 0;
  uint64_t told_ = 0;  // of received_, what the peer was told
  uint32_t bare_ = 0;
  uint32_t resets_without_progress_ = 0;
  bool was_open_ = false;
  bool heard_ = false;  // since the last tick
  bool goodbye_over_ = false;
  Nanos silent_{0};
  Op* connect_op_ = nullptr;
  Status why_;
  Timer deadline_;  // of the handshake, then of the goodbye
  Timer release_timer_;
};
}  // namespace terrace
