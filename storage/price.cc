// What a place in a tier costs, and who of which list would leave for it.
#include <algorithm>

#include "storage/core.h"

namespace terrace {
namespace {
constexpr uint32_t kLooksMax = 64;
}  // namespace

ChunkStore::Core::Room ChunkStore::Core::room_in(Tier tier, uint32_t list) const {
  if (tier == Tier::hbm) return {hbm->free_bytes(), hbm->capacity_bytes()};
  if (tier == Tier::nvme) return {nvme->free_bytes(), nvme->capacity_bytes()};
  const Arena::Holding& held = arena->holding(DomainId{list});
  return {held.free + arena->unowned_bytes(), held.capacity};
}

double ChunkStore::Core::least_value(Tier tier, uint32_t list) const {
  double least = 0;
  uint32_t looked = 0;
  policy->walk(tier, list, loop->now(), [&](uint32_t id) {
    least = policy->value(id, loop->now());
    // Behind many pinned ones the next is worth about the same.
    if (index[id].pins > 0 && ++looked < kLooksMax) return PlacementPolicy::Visit::passed;
    return PlacementPolicy::Visit::stop;
  });
  return least;
}

std::vector<ChunkStore::Core::ListPrice> ChunkStore::Core::nvme_lists(uint64_t bytes) const {
  std::vector<ListPrice> lists;
  for (const uint16_t place : nvme->places_that_make_room(bytes)) {
    if (policy->size(Tier::nvme, place) == 0) continue;
    lists.push_back({least_value(Tier::nvme, place), place});
  }
  std::sort(lists.begin(), lists.end());
  return lists;
}

void ChunkStore::Core::relist(uint32_t id) {
  const IndexEntry& entry = index[id];
  if (!entry.has(IndexEntry::on_nvme) || entry.has(IndexEntry::doomed)) return;
  if (nvme->missing(entry.first_extent.device)) return;  // in no list: its going makes no room
  policy->left(Tier::nvme, id);
  policy->entered(Tier::nvme, nvme_list_of(entry), id);
}

double ChunkStore::Core::price(Tier tier, uint32_t list) const {
  const auto [free, capacity] = room_in(tier, list);
  // The evictor keeps the watermark free: with not much more than that it is at work.
  if (free > 2 * evictor.watermark(capacity)) return 0;
  if (tier != Tier::nvme) return least_value(tier, list);
  const std::vector<ListPrice> lists = nvme_lists();
  return lists.empty() ? 0 : lists[0].value;
}

bool ChunkStore::Core::worth(uint32_t id, Tier tier, double price_there) const {
  return policy->worth(id, tier, price_there, loop->now());
}
}  // namespace terrace
