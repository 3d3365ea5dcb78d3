// storage/slab_keeper.h - where the memory of the dram tier lives on while no node runs, so that
// the next one takes it back. A seam: a keeper process, systemd's store of descriptors, a test.
#pragma once
#include <array>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "base/chunk_key.h"
#include "base/handle.h"
#include "base/status.h"
#include "storage/domain.h"

namespace terrace {

/// Thread-safe: slabs get new memory on a thread of the arena's.
class SlabKeeper {
 public:
  virtual ~SlabKeeper() = default;
  /// Keeps a descriptor of the file under this name, which no file had before. `file` stays the
  /// caller's. kResourceExhausted: it keeps as many as it can; kUnavailable: it is not there.
  virtual Status keep(const std::string& name, const Fd& file) = 0;
  /// The file of this name is not to come back. One that is not there is ignored.
  virtual void forget(const std::string& name) = 0;
};

/// A file that an earlier run left with its keeper.
struct KeptFile {
  std::string name;
  Fd file;
};

/// What a store needs to take the dram tier of an earlier run back, and to leave its own behind.
struct SlabKeeping {
  SlabKeeper* keeper = nullptr;       // outlives the store; null: the dram tier ends with it
  std::array<std::byte, 16> owner{};  // of the data directory; slabs of another are left alone
  std::vector<KeptFile> files;        // of the earlier run
  /// Those there are, with the tenant that each belongs to.
  std::vector<std::pair<NamespaceId, DomainId>> namespaces;
};
}  // namespace terrace
