// RdmaTransport where libibverbs is not: create() says so, and nothing else can be called.
#include "base/check.h"
#include "transport/rdma_transport.h"

namespace terrace {

class RdmaTransport::Core {};

StatusOr<std::unique_ptr<RdmaTransport>> RdmaTransport::create(Loop*, TransportHandler*,
                                                               const RdmaOptions&) {
  return error(
      StatusCode::kUnavailable,
      "built without RDMA: libibverbs-dev was not found; install it and rebuild, or use tcp");
}

RdmaTransport::RdmaTransport(std::unique_ptr<Core> core) : core_(std::move(core)) {}
RdmaTransport::~RdmaTransport() = default;

StatusOr<RdmaTransport::Offer> RdmaTransport::open(std::array<std::byte, 16>) {
  return StatusCode::kUnavailable;
}
Status RdmaTransport::establish(PeerId, const std::string&, Nanos, Op*) {
  return StatusCode::kUnavailable;
}
StatusOr<RdmaTransport::Offer> RdmaTransport::accept(std::array<std::byte, 16>,
                                                     const std::string&) {
  return StatusCode::kUnavailable;
}
Status RdmaTransport::find_way(const std::string&) const {
  return StatusCode::kUnavailable;
}
const RdmaMetrics& RdmaTransport::metrics() const {
  static const RdmaMetrics none;
  return none;
}
StatusOr<RegionId> RdmaTransport::register_region(std::span<std::byte>) {
  return StatusCode::kUnavailable;
}
StatusOr<RegionId> RdmaTransport::register_device_memory(const DeviceMemory&) {
  return StatusCode::kUnavailable;
}
void RdmaTransport::when_prepared(RegionId, Op*) {
  TERRACE_CHECK(false);  // there is no transport to call it on
}
Status RdmaTransport::unregister_region(RegionId) {
  return StatusCode::kUnavailable;
}
bool RdmaTransport::region_in_use(RegionId) const {
  return false;
}
void RdmaTransport::expect_memory(std::span<std::byte>) {}
void RdmaTransport::forget_memory(std::span<std::byte>) {}
Status RdmaTransport::send_message(PeerId, const Message&) {
  return StatusCode::kUnavailable;
}
Status RdmaTransport::write(PeerId, const Write&, Op*) {
  return StatusCode::kUnavailable;
}
Status RdmaTransport::read(PeerId, const Read&, Op*) {
  return StatusCode::kUnavailable;
}
void RdmaTransport::cancel(Op*) {}
void RdmaTransport::quiesce(PeerId, uint64_t, Op*) {
  TERRACE_CHECK(false);  // there is no transport to call it on
}
uint64_t RdmaTransport::queued_bytes(PeerId) const {
  return 0;
}
void RdmaTransport::close_peer(PeerId, Status) {}
void RdmaTransport::close(Op*) {
  TERRACE_CHECK(false);  // there is no transport to call it on
}
}  // namespace terrace
