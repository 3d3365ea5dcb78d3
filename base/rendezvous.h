// base/rendezvous.h - which of several nodes owns a key: rendezvous hashing, also called highest
// random weight (Thaler and Ravishankar, "Using name-based mappings to increase hit rates",
// IEEE/ACM Transactions on Networking 6(1), 1998). Pure: whoever knows the same names comes to the
// same owners, without a table and without asking anybody.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/chunk_key.h"

namespace terrace {

/// Every node scores each key with a hash of its name and the key; the highest score owns it. A
/// node that joins takes only what it now owns, one that leaves gives up only what it owned. All
/// nodes weigh the same; with weights a node would score -weight / ln(hash).
class Rendezvous {
 public:
  /// At least one name, all different. The order does not change who owns what.
  explicit Rendezvous(std::span<const std::string> names);
  /// The owner's place among the names.
  uint32_t owner(const ChunkKey& key) const;
  uint32_t nodes() const { return static_cast<uint32_t>(seeds_.size()); }

 private:
  std::vector<uint64_t> seeds_;  // of the names, in their order
};
}  // namespace terrace
