// client/leases.h - what a LeaseId stands for: a lease of one node, or a bundle of several nodes'.
// Leases belong to a session, so the number says which: a node's epoch changes when it is reached
// anew, and its old leases are lost. Loop thread.
#pragma once
#include <cstdint>
#include <map>
#include <vector>

#include "base/limits.h"
#include "client/terrace.h"

namespace terrace {

class Leases {
 public:
  /// Bundles remembered. The oldest goes first: it then counts as lost, and its leases end by their
  /// own time.
  static constexpr size_t kBundlesMax = kLeasesPerSessionMax;
  struct Lease {
    uint32_t node = 0;
    uint16_t epoch = 0;
    uint64_t wire = 0;  // the node's number
  };
  /// kNoLease for a number that no node grants: 0, or one of more than 40 bits.
  static LeaseId pack(const Lease& lease);
  /// One name for all of them: kNoLease for none, the lease itself for one.
  LeaseId bundle(std::vector<LeaseId> leases);
  /// Those that it stands for; empty for kNoLease, and for a bundle that was forgotten.
  std::vector<Lease> find(LeaseId lease) const;
  void forget(LeaseId bundle) { bundles_.erase(static_cast<uint64_t>(bundle)); }
  /// The number that names it to `node`, whose session has `epoch` now: 0 when the node has no part
  /// in it, kLost when it had.
  uint64_t wire_of(LeaseId lease, uint32_t node, uint16_t epoch) const;
  static constexpr uint64_t kLost = ~uint64_t{0};  // no node ever grants it

 private:
  std::map<uint64_t, std::vector<LeaseId>> bundles_;  // oldest first
  uint64_t next_ = 1;
};
}  // namespace terrace
