#include "server/node/lease_table.h"

#include <string>

namespace terrace {

LeaseTable::~LeaseTable() {
  for (auto& [id, lease] : leases_) loop_->disarm(&lease->timer);
}

StatusOr<uint64_t> LeaseTable::grant(std::vector<Pin> pins, Nanos ttl) {
  if (leases_.size() >= leases_max_) {
    return error(StatusCode::kResourceExhausted,
                 "session holds " + std::to_string(leases_.size()) + " leases; at most " +
                     std::to_string(leases_max_) + ": release some");
  }
  const uint64_t id = next_++;
  pins_ += pins.size();
  auto lease = std::make_unique<Lease>(std::move(pins), [this, id] { release(id); });
  loop_->arm(&lease->timer, loop_->now() + ttl);
  leases_.emplace(id, std::move(lease));
  return id;
}

void LeaseTable::release(uint64_t lease) {
  const auto found = leases_.find(lease);
  if (found == leases_.end()) return;
  // May run inside the lease's own timer, so the timer lives on until the next turn.
  const std::shared_ptr<Lease> gone = std::move(found->second);
  leases_.erase(found);
  loop_->disarm(&gone->timer);
  pins_ -= gone->pins.size();
  gone->pins.clear();
  loop_->defer([gone] {});
}
}  // namespace terrace
