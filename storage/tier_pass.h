// storage/tier_pass.h - one pass over a tier that an administrator asked for: how far it is.
// Thread-confined.
#pragma once
#include <cstdint>
#include <memory>

#include "base/chunk_key.h"
#include "base/status.h"

namespace terrace {

/// Reads every byte of a tier and checks it. Owned by shared pointers: the store has one until it
/// is over.
struct VerifyPass {
  Tier tier = Tier::nvme;
  uint32_t mib_per_s = 64;  // at most
  bool cancelled = false;   // by whoever asked for it
  uint64_t expected = 0;    // objects when it began
  uint64_t objects = 0;     // checked so far
  uint64_t bytes = 0;
  uint64_t bad = 0;  // of the objects: quarantined
  bool over = false;
};

/// Writes what lies only in dram to nvme.
struct DrainPass : std::enable_shared_from_this<DrainPass> {
  static constexpr uint32_t kRunningMax = 32;
  uint64_t written = 0;
  uint64_t failed = 0;
  uint32_t next = 0;  // of the index
  uint32_t running = 0;
};

/// Moves what lies on a device of nvme, which gets no new objects, to the others, by way of dram.
struct EmptyPass : std::enable_shared_from_this<EmptyPass> {
  static constexpr uint32_t kRunningMax = 4;
  uint16_t place = 0;
  uint64_t moved = 0;
  uint64_t failed = 0;  // no room, in use, or the device did not give it
  uint32_t next = 0;    // of the index
  uint32_t running = 0;
};
}  // namespace terrace
