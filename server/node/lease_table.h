// server/node/lease_table.h - bounded promises given by lookups: the bytes will still be there for
// the fetch. One table per session, so that a lease dies with its connection. Loop thread only.
#pragma once
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/loop.h"
#include "storage/chunk_store.h"

namespace terrace {

class LeaseTable {
 public:
  LeaseTable(Loop* loop, size_t leases_max) : loop_(loop), leases_max_(leases_max) {}
  ~LeaseTable();
  LeaseTable(const LeaseTable&) = delete;
  LeaseTable& operator=(const LeaseTable&) = delete;

  /// Keeps `pins` until release() or for `ttl`. Returns the lease's id, never 0.
  /// kResourceExhausted: the session has leases_max leases.
  StatusOr<uint64_t> grant(std::vector<Pin> pins, Nanos ttl);
  bool holds(uint64_t lease) const { return leases_.contains(lease); }
  void release(uint64_t lease);
  size_t size() const { return leases_.size(); }
  size_t pins() const { return pins_; }

 private:
  struct Lease {
    Lease(std::vector<Pin> held, std::function<void()> expired)
        : pins(std::move(held)), timer(std::move(expired)) {}
    std::vector<Pin> pins;
    Timer timer;
  };
  Loop* const loop_;
  const size_t leases_max_;
  size_t pins_ = 0;
  uint64_t next_ = 1;
  std::unordered_map<uint64_t, std::unique_ptr<Lease>> leases_;
};
}  // namespace terrace
