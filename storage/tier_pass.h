// storage/tier_pass.h - one pass over a tier that an administrator asked for: how far it is.
// Thread-confined.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/chunk_key.h"
#include "base/status.h"

namespace terrace {

/// Reads every byte of a tier and checks it. Owned by shared pointers: the store has one until it
/// is over.
struct VerifyPass {
  Tier tier = Tier::nvme;
  uint32_t mib_per_s = 64;  // at most
  bool cancelled = false;   // by whoever asked for it
  uint64_t expected = 0;    // objects when it began; of shared: that this node knew
  uint64_t objects = 0;     // checked so far
  uint64_t bytes = 0;
  uint64_t bad = 0;      // of the objects: quarantined
  uint64_t skipped = 0;  // besides: could not be read now; of shared also what is not ours, or of a
                         // later build
  Status result;         // why not all was checked, or not all damage quarantined; set with `over`
  bool over = false;
};

/// Does something to objects of the index, a few at a time.
struct IndexPass : std::enable_shared_from_this<IndexPass> {
  uint64_t done = 0;
  uint64_t failed = 0;  // in use, no room, or the medium did not do it; what went meanwhile is none
  uint32_t next = 0;    // of the index
  uint32_t running = 0;
};

/// Writes what lies only in dram to nvme.
struct DrainPass : IndexPass {
  static constexpr uint32_t kRunningMax = 32;
};

/// Moves what lies on a device of nvme, which gets no new objects, to the others, by way of dram.
struct EmptyPass : IndexPass {
  static constexpr uint32_t kRunningMax = 4;
  uint16_t place = 0;
};

/// Changes the size of a tier while it runs. Owned as VerifyPass is.
struct ResizePass {
  Tier tier = Tier::dram;
  uint16_t place = 0;      // of nvme: the device
  uint64_t target = 0;     // bytes; when it begins: rounded to what the tier can have
  bool cancelled = false;  // by whoever asked for it: it stays as large as it is then
  uint64_t bytes = 0;      // that the tier has now
  uint64_t to_leave = 0;   // bytes of objects that lie where nothing will be
  Status result;           // why it is not as large as was asked for
  bool over = false;
};

/// Tells the devices of nvme which of their space is free. Owned as VerifyPass is.
struct TrimPass {
  struct OfDevice {
    uint16_t place = 0;
    std::string path;
    uint64_t bytes = 0;  // trimmed in this pass
    Status result;       // why not all of it; OK: all that was free and used since the last time
  };
  std::optional<uint16_t> place;  // of one device; none: of all
  bool cancelled = false;         // by whoever asked for it
  std::vector<OfDevice> devices;  // filled in when it begins
  bool over = false;
};
}  // namespace terrace
