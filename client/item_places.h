// client/item_places.h - where the bytes of one operation's items lie in the engine's memory: what
// the engine said, checked, and the regions it names held.
#pragma once
#include <memory>
#include <span>
#include <string>

#include "client/namespaces.h"
#include "client/regions.h"
#include "client/terrace.h"
#include "proto/request_places.h"

namespace terrace {

/// The planes of the pool in section order. kInvalidArgument: a raw namespace, a section without a
/// segment or with two, a stride shorter than a block; the message names the section.
StatusOr<PagedPool> planes_of(const ObjectShape& shape, std::span<const PoolSegment> pool);

class ItemPlaces {
 public:
  ItemPlaces(std::shared_ptr<const ObjectShape> shape, MemoryTable* regions)
      : shape_(std::move(shape)), memory_(regions) {}
  /// Once, before the items. An empty pool is none. Errors of planes_of().
  Status use_pool(std::span<const PoolSegment> pool);
  /// The next item's. kInvalidArgument: neither or both ways of saying it, blocks that do not add
  /// up to the planes, an unknown region, a place outside its region, more than one request takes.
  StatusOr<FragmentMap> next(std::span<const Fragment> fragments,
                             std::span<const uint32_t> block_ids);
  /// As it travels; empty: none.
  const std::string& packed_pool() const { return packed_pool_; }
  RegionUses take_memory() { return std::move(memory_); }

 private:
  Status check_blocks(size_t blocks) const;
  Status use(const FragmentMap& map);

  const std::shared_ptr<const ObjectShape> shape_;
  std::shared_ptr<const PagedPool> pool_;
  std::string packed_pool_;
  RegionUses memory_;
  PlaceBudget budget_;
};
}  // namespace terrace
