// storage/slab_registry.h - tells those who registered the memory of slabs (the device, a
// transport) when it comes and before it goes, a bounded step per turn. Thread-confined.
#pragma once
#include <cstdint>
#include <vector>

#include "base/loop.h"
#include "storage/chunk_store.h"

namespace terrace {

class SlabRegistry {
 public:
  explicit SlabRegistry(ChunkStore::Core& core);
  /// The arena is there; `core.device` may be.
  void start();
  void stop();
  /// All slabs that were there at the start were populated and told of.
  bool knows_all() const;
  /// As ChunkStore::on_slab_memory.
  void listen(ChunkStore::SlabListener listener);
  /// A retired, empty slab: nobody has its memory registered any longer, then as Arena::replace.
  void replace(uint32_t slab, DomainId next);
  /// As Arena::add.
  bool add();

 private:
  /// Of the device's registrations made or undone per turn: 0.4 ms for 4 KiB pages (measured).
  static constexpr uint64_t kStepBytes = uint64_t{16} << 20;
  struct Slab {
    bool present = false;
    DomainId next = kNobody;  // a domain: it leaves
    uint64_t registered = 0;  // with the device, from the start
  };
  void look();
  void came(uint32_t slab);
  bool step(uint32_t slab);
  void tell(uint32_t slab);

  ChunkStore::Core& core_;
  ChunkStore::SlabListener listener_;
  std::vector<Slab> slabs_;
  uint32_t known_ = 0;
  std::vector<uint32_t> moving_;  // to be registered or unregistered
  Timer timer_;
};
}  // namespace terrace
