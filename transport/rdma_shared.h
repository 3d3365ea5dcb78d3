// transport/rdma_shared.h - what the peers of one RDMA transport have in common, and what the two
// halves of a peer (its own transfers, and those it serves) need from the whole. Internal.
#pragma once
#include <array>
#include <memory>
#include <unordered_map>
#include <vector>

#include "transport/rdma_lane.h"
#include "transport/rdma_memory.h"
#include "transport/region_table.h"
#include "transport/transport.h"

namespace terrace {

class RdmaPeer;

struct RdmaShared {
  RdmaShared(Loop* loop_of_all, TransportHandler* handler_of_all, const RdmaOptions& given)
      : loop(loop_of_all), handler(handler_of_all), options(given) {}
  Loop* const loop;
  TransportHandler* const handler;
  const RdmaOptions options;
  RdmaMetrics metrics;
  RegionTable regions;
  std::vector<std::unique_ptr<RdmaDevice>> devices;
  std::unique_ptr<RdmaMemory> memory;
  /// Who owns a queue pair: by the serial in its requests, and by its number on a device.
  struct LaneOwner {
    RdmaPeer* peer = nullptr;
    size_t path = 0;
    RdmaLane::Kind kind = RdmaLane::Kind::message;
  };
  uint32_t next_serial = 1;
  std::unordered_map<uint32_t, LaneOwner> lanes;
  struct DeviceLanes {
    std::unordered_map<uint32_t, uint32_t> serial_of;  // by queue pair number, of messages
  };
  std::vector<DeviceLanes> device_lanes;
  bool bounce_wanted = false;  // a transfer of some peer waits for a bounce buffer
};

/// The whole, as its halves see it.
class RdmaLink {
 public:
  virtual bool is_open() const = 0;
  virtual PeerId id() const = 0;
  /// Queues one step of a transfer, or of a path.
  virtual void send_step(RdmaRecord record, std::span<const std::byte> body = {},
                         std::span<const std::byte> body_rest = {}) = 0;
  /// Bytes of steps that wait to be sent.
  virtual size_t step_bytes() const = 0;
  virtual size_t paths() const = 0;
  /// The connected data lane of a path, and how often it was replaced; null when there is none.
  virtual RdmaLane* data_lane(size_t path) = 0;
  virtual uint32_t generation(size_t path) const = 0;
  /// Takes the data queue pair away: nothing is read or written through it afterwards. Both halves
  /// hear lane_lost() before it returns; a new one is made.
  virtual void reset_lane(size_t path) = 0;
  virtual void schedule_pump() = 0;
  /// Calls both halves' release_due() at `at` or earlier.
  virtual void arm_release(Nanos at) = 0;

 protected:
  ~RdmaLink() = default;
};
}  // namespace terrace
