#include "client/leases.h"

#include <algorithm>

namespace terrace {
namespace {

// bundle 1 | node 7 | epoch 16 | the node's number 40
constexpr uint64_t kBundleBit = uint64_t{1} << 63;
constexpr uint32_t kNodeShift = 56;
constexpr uint32_t kEpochShift = 40;
constexpr uint64_t kWireMask = (uint64_t{1} << kEpochShift) - 1;
static_assert(kNodesMax <= 128, "a node's place fits in 7 bits");

Leases::Lease unpack(LeaseId lease) {
  const auto value = static_cast<uint64_t>(lease);
  return {static_cast<uint32_t>(value >> kNodeShift),
          static_cast<uint16_t>(value >> kEpochShift & 0xFFFF), value & kWireMask};
}

bool is_bundle(LeaseId lease) {
  return (static_cast<uint64_t>(lease) & kBundleBit) != 0;
}
}  // namespace

LeaseId Leases::pack(const Lease& lease) {
  if (lease.wire == 0 || lease.wire > kWireMask) return kNoLease;
  return LeaseId{uint64_t{lease.node} << kNodeShift | uint64_t{lease.epoch} << kEpochShift |
                 lease.wire};
}

LeaseId Leases::bundle(std::vector<LeaseId> leases) {
  std::erase(leases, kNoLease);
  if (leases.empty()) return kNoLease;
  if (leases.size() == 1) return leases[0];
  const uint64_t id = kBundleBit | next_++;
  bundles_.emplace(id, std::move(leases));
  if (bundles_.size() > kBundlesMax) bundles_.erase(bundles_.begin());
  return LeaseId{id};
}

std::vector<Leases::Lease> Leases::find(LeaseId lease) const {
  if (lease == kNoLease) return {};
  if (!is_bundle(lease)) return {unpack(lease)};
  std::vector<Lease> parts;
  const auto found = bundles_.find(static_cast<uint64_t>(lease));
  if (found == bundles_.end()) return {};
  for (const LeaseId part : found->second) parts.push_back(unpack(part));
  return parts;
}

uint64_t Leases::wire_of(LeaseId lease, uint32_t node, uint16_t epoch) const {
  const std::vector<Lease> parts = find(lease);
  if (parts.empty()) return lease == kNoLease ? 0 : kLost;
  for (const Lease& part : parts) {
    if (part.node == node) return part.epoch == epoch ? part.wire : kLost;
  }
  return 0;
}
}  // namespace terrace
