#include "storage/departures.h"

#include <array>
#include <cstring>
#include <span>

#include "base/prng.h"

namespace terrace {
namespace {

uint64_t random_word() {
  uint64_t word = 0;
  secure_random(std::as_writable_bytes(std::span(&word, 1)));
  return word;
}
}  // namespace

const char* name_of(DepartReason reason) {
  static constexpr std::array<const char*, kDepartReasons> kNames = {
      "evicted", "expired", "erased", "quarantined", "cleared", "moved", "lost", "swept"};
  return kNames[static_cast<size_t>(reason)];
}

Departures::Departures(uint64_t bytes)
    : capacity_(static_cast<size_t>(bytes / kBytesEach)),
      secret_(random_word()),
      heads_(capacity_) {}

size_t Departures::head_of(NamespaceId ns, const ChunkKey& key) const {
  uint64_t hash = secret_ ^ static_cast<uint64_t>(ns);
  for (size_t at = 0; at < key.digest.size(); at += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, key.digest.data() + at, sizeof(word));
    // As splitmix64 mixes, with what came before.
    hash = (hash ^ word) + 0x9e3779b97f4a7c15;
    hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;
    hash = (hash ^ (hash >> 27)) * 0x94d049bb133111eb;
    hash ^= hash >> 31;
  }
  return hash % capacity_;
}

const Departures::Slot* Departures::slot(uint64_t number) const {
  if (number == 0 || number + capacity_ <= count_) return nullptr;
  return &ring_[(number - 1) % capacity_];
}

void Departures::add(const Departure& departure) {
  if (capacity_ == 0) return;
  uint64_t* const head = &heads_[head_of(departure.ns, departure.key)];
  const size_t at = count_ % capacity_;
  if (at == ring_.size()) ring_.emplace_back();
  ring_[at] = {departure, *head};
  *head = ++count_;
}

/// The newest first, until `visit` returns false. Chains end where the ring forgot them.
template <class Visit>
void Departures::walk(NamespaceId ns, const ChunkKey& key, const Visit& visit) const {
  if (capacity_ == 0) return;
  const Slot* each = slot(heads_[head_of(ns, key)]);
  for (int steps = 0; each != nullptr && steps < kStepsMax; ++steps, each = slot(each->before)) {
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
