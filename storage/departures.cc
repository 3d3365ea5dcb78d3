#include "storage/departures.h"

#include <algorithm>
#include <array>

namespace terrace {

const char* name_of(DepartReason reason) {
  static constexpr std::array<const char*, kDepartReasons> kNames = {
      "evicted", "expired", "erased", "quarantined", "cleared", "moved", "lost", "swept"};
  return kNames[static_cast<size_t>(reason)];
}

Departures::Departures(uint64_t bytes)
    : capacity_(static_cast<size_t>(bytes / kBytesEach)), heads_(capacity_) {}

uint64_t* Departures::head_of(NamespaceId ns, const ChunkKey& key) {
  return &heads_[(ChunkKeyHash()(key) ^ static_cast<uint64_t>(ns)) % capacity_];
}

const Departures::Slot* Departures::slot(uint64_t number) const {
  if (number == 0 || number + capacity_ <= count_) return nullptr;
  return &ring_[(number - 1) % capacity_];
}

void Departures::add(const Departure& departure) {
  if (capacity_ == 0) return;
  uint64_t* const head = head_of(departure.ns, departure.key);
  const size_t at = count_ % capacity_;
  if (at == ring_.size()) ring_.emplace_back();
  ring_[at] = {departure, *head};
  *head = ++count_;
}

/// The newest first, until `visit` returns false. Chains end where the ring forgot them.
template <class Visit>
void Departures::walk(NamespaceId ns, const ChunkKey& key, const Visit& visit) const {
  if (capacity_ == 0) return;
  const uint64_t head = heads_[(ChunkKeyHash()(key) ^ static_cast<uint64_t>(ns)) % capacity_];
  for (const Slot* each = slot(head); each != nullptr; each = slot(each->before)) {
    if (each->what.ns == ns && each->what.key == key && !visit(each->what)) return;
  }
}

std::vector<Departure> Departures::of(NamespaceId ns, const ChunkKey& key, size_t limit) const {
  std::vector<Departure> found;
  walk(ns, key, [&](const Departure& each) {
    if (found.size() == limit) return false;
    found.push_back(each);
    return true;
  });
  return found;
}

Departure* Departures::newest(NamespaceId ns, const ChunkKey& key) {
  const Departure* found = nullptr;
  walk(ns, key, [&](const Departure& each) {
    found = &each;
    return false;
  });
  return const_cast<Departure*>(found);
}
}  // namespace terrace
