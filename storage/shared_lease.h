// storage/shared_lease.h - leases in the shared tier: one of all nodes has the right to do
// something, for a time. Blocking, for a thread of storage/shared_calls.h. docs/formats.md.
//
// A lease is an object whose name ends in its fencing token. To take one over is to create the next
// token, which one of all who try can. Its age is by the medium's clock, so no two machines' clocks
// are compared. Tokens are advisory: what a late holder still does must be harmless.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "base/clock.h"
#include "storage/shared_medium.h"

namespace terrace {

struct SharedLease {
  std::string name;    // letters, digits, '-'
  uint64_t token = 0;  // higher than that of every earlier holder
};

/// Takes the lease when nobody has it, or its holder did not renew it for as long as it said (then
/// that holder has lost it). `ttl` is how long the new one is good without renewal. kAborted:
/// somebody has it, or was faster. Else the medium's errors.
StatusOr<SharedLease> claim_lease(SharedMedium* medium, const std::string& name, Nanos ttl);
/// Good for another `ttl`, from when this call began. Not after the lease ran out by the holder's
/// own clock: then claim anew. kAborted: another one has it.
Status renew_lease(SharedMedium* medium, const SharedLease& lease);
/// Others may claim it at once. Nothing when it is lost.
void release_lease(SharedMedium* medium, const SharedLease& lease);
/// Removes what is left of leases that nobody renewed for `age`, in one of kSharedFolders folders.
/// Their tokens begin anew. `go_on` is asked before each. Returns how many went.
StatusOr<uint64_t> forget_leases(SharedMedium* medium, uint32_t folder, Nanos age,
                                 const std::function<bool()>& go_on);
}  // namespace terrace
