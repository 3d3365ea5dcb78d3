// storage/object_name.h - which object of a store.
#pragma once
#include <cstddef>

#include "base/chunk_key.h"

namespace terrace {

struct ObjectName {
  NamespaceId ns{};
  ChunkKey key;
  bool operator==(const ObjectName&) const = default;
};

struct ObjectNameHash {
  size_t operator()(const ObjectName& name) const {
    return ChunkKeyHash()(name.key) ^ static_cast<size_t>(name.ns);
  }
};
}  // namespace terrace
