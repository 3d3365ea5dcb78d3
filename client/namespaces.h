// client/namespaces.h - the namespaces a client opened: what their chunks look like, and which
// number each node knows them by now (it may change when a node comes back with other data).
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/chunk_key.h"
#include "base/geometry.h"
#include "base/identity.h"
#include "base/status.h"

namespace terrace {

/// How the logical bytes of a namespace's full chunks fall into sections and layers.
struct ObjectShape {
  std::vector<SectionSpec> sections;     // empty: raw, unknown here
  std::vector<uint64_t> section_starts;  // one more than sections; the last is the total
  std::vector<uint16_t> section_layer;   // position of the section's layer in the need order
  /// Per position in the need order: the position whose sections hold its bytes (an alias points
  /// to the layer it shares). A raw object is one layer.
  std::vector<uint16_t> layer_source;

  bool raw() const { return sections.empty(); }
  uint64_t bytes() const { return section_starts.empty() ? 0 : section_starts.back(); }
};
ObjectShape shape_of(const Geometry& geometry);

/// Never changes once made; shared between threads.
struct NamespaceInfo {
  std::string name;
  std::string canonical;  // the fingerprint's bytes
  ChunkKey digest;        // of the fingerprint
  uint32_t tokens_per_chunk = 0;
  std::shared_ptr<const ObjectShape> shape;
};
NamespaceInfo info_of(const std::string& name, const Fingerprint& fingerprint);

/// Thread-safe.
class NamespaceBook {
 public:
  /// Records that `node` opened it as `wire`. Returns the number for the engine: the same one
  /// unless another namespace has it; the same namespace has its first number on every node and for
  /// ever.
  NamespaceId add(std::shared_ptr<const NamespaceInfo> info, uint32_t node, uint32_t wire);
  /// kInvalidArgument when this client never opened it.
  StatusOr<std::shared_ptr<const NamespaceInfo>> find(NamespaceId ns) const;
  /// The node's number now, or why it has none since the last reconnect.
  StatusOr<uint32_t> wire(NamespaceId ns, uint32_t node) const;
  void set_wire(NamespaceId ns, uint32_t node, StatusOr<uint32_t> wire);

  struct Listed {
    NamespaceId ns{};
    std::shared_ptr<const NamespaceInfo> info;
  };
  std::vector<Listed> all() const;

 private:
  struct Entry {
    std::shared_ptr<const NamespaceInfo> info;
    std::map<uint32_t, StatusOr<uint32_t>> wires;  // by node
  };
  mutable std::mutex mutex_;
  std::map<NamespaceId, Entry> entries_;  // guarded by mutex_
};
}  // namespace terrace
