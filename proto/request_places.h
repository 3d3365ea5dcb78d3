// proto/request_places.h - where the bytes of a request's items lie: as fragments, or as the block
// ids of a paged pool that the request names once. For both sides. Values only.
#pragma once
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/limits.h"
#include "proto/fragment_map.h"

namespace terrace {

/// What the items of one request may name together.
class PlaceBudget {
 public:
  /// kInvalidArgument names the limit.
  Status take(const FragmentMap& map);

 private:
  size_t fragments_ = kFragmentsPerRequestMax;
  size_t runs_ = kFragmentsPerRequestMax;  // what a map holds in memory besides
  size_t blocks_ = kBlockIdsPerRequestMax;
  uint64_t pieces_ = kPagedPiecesPerRequestMax;
};

class RequestPlaces {
 public:
  /// `pool`: the request's packed planes; empty: none.
  static StatusOr<RequestPlaces> create(std::string_view pool);
  /// The next item's map, out of packed fragments or packed block ids; kInvalidArgument: both, what
  /// FragmentMap refuses, or more than the budget.
  StatusOr<FragmentMap> next(std::string_view fragments, std::string_view blocks);

 private:
  std::shared_ptr<const PagedPool> pool_;
  PlaceBudget budget_;
};
}  // namespace terrace
