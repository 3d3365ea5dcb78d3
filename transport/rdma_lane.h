// transport/rdma_lane.h - one reliable queue pair: of messages, which arrive in the device's shared
// buffers, or of data, whose immediates need no buffer. Destroying it is how memory is taken back
// from it: nothing is read or written through it afterwards. Thread-confined.
#pragma once
#include <deque>
#include <memory>
#include <optional>
#include <span>

#include "transport/rdma_device.h"

namespace terrace {

/// As RdmaTransport::find_way(): from each of `devices` to its path in `endpoint`.
Status find_ways(std::span<const std::unique_ptr<RdmaDevice>> devices, const std::string& endpoint);

class RdmaLane {
 public:
  enum class Kind : uint8_t { message, data };
  static constexpr uint32_t kMessageDepth = 2 * kRdmaFrameWindow + 16;
  static constexpr uint32_t kDataDepth = 128;
  static constexpr uint32_t kImmediatesPosted = kRdmaTransfers + 8;
  static constexpr uint32_t kPiecesMax = 16;
  /// Completions that one lane of each kind may have in the queue at once, also when flushed.
  static constexpr uint32_t kCompletions = kMessageDepth + kDataDepth + kImmediatesPosted;

  /// `serial` is unique within the transport. kResourceExhausted.
  static StatusOr<std::unique_ptr<RdmaLane>> create(RdmaDevice* device, Kind kind, uint32_t serial);

  uint32_t serial() const { return serial_; }
  uint32_t qpn() const { return qp_.get()->qp_num; }
  uint32_t psn() const { return psn_; }
  uint32_t inline_max() const { return inline_max_; }
  uint32_t pieces_max() const { return pieces_max_; }

  /// Connects to `qpn` of the peer's port. kUnavailable.
  Status connect(const RdmaPathEndpoint& to, uint32_t qpn, uint32_t psn, Nanos dead_peer_timeout);

  /// Requests that may still be posted.
  uint32_t room() const { return static_cast<uint32_t>(depth_ - (posted_ - completed_)); }
  bool idle() const { return posted_ == completed_; }
  /// What the caller wants to hear when everything up to and including a request is through.
  struct Marker {
    uint64_t upto = 0;
    uint64_t transfer = 0;  // 0: none
  };
  /// Posts `request` (its wr_id and signal are set here). With `tell`, its completion comes with
  /// `transfer`. kUnavailable.
  Status post(ibv_send_wr* request, bool tell, uint64_t transfer = 0);
  /// A successful completion of this lane's: takes the oldest marker off.
  std::optional<Marker> sent();
  /// An immediate was received: another may come.
  void replace_receive();

 private:
  RdmaLane(RdmaDevice* device, Kind kind, uint32_t serial)
      : device_(device), kind_(kind), serial_(serial) {}
  Status initialize();

  RdmaDevice* const device_;
  const Kind kind_;
  const uint32_t serial_;
  uint32_t psn_ = 0;
  uint32_t depth_ = 0;
  uint32_t inline_max_ = 0;
  uint32_t pieces_max_ = 1;
  uint64_t posted_ = 0;
  uint64_t completed_ = 0;
  std::deque<Marker> markers_;
  VerbsQueuePair qp_;
};
}  // namespace terrace
