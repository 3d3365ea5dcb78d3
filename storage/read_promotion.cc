#include "storage/read_promotion.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace terrace {
namespace {
constexpr uint64_t kPartComingIn = 4;  // of the arena, one in so many bytes at most
}  // namespace

std::unique_ptr<ReadPromotion> ReadPromotion::begin(ChunkStore::Core* core, uint32_t id,
                                                    std::span<const std::byte> header,
                                                    uint32_t units) {
  IndexEntry& entry = core->index[id];
  const uint32_t hits = core->config.promote_hits;
  const bool often = hits > 0 && uint32_t{entry.nvme_hits} + 1 >= hits;
  const bool free = entry.resident == kNoEntry && !entry.has(IndexEntry::moving_up) &&
                    !entry.has(IndexEntry::doomed);
  if (!often || !free || units == 0) return nullptr;
  const uint64_t coming = core->promoting_bytes + entry.stored_bytes();
  if (coming > core->arena->capacity_bytes() / kPartComingIn) return nullptr;
  const DomainId domain = core->domain_of(entry.ns);
  const double price = core->price(Tier::dram, static_cast<uint32_t>(domain));
  if (!core->worth(id, Tier::dram, price)) {
    core->metrics.promotions_unworthy.add();
    return nullptr;
  }
  std::shared_ptr<ArenaSpace> space = core->evictor.dram_space(domain, entry.stored_bytes(), false);
  if (space == nullptr) return nullptr;
  space->mark_filling();
  std::vector<iovec> memory;
  space->memory(0, header.size(), &memory);
  for (const iovec& run : memory) {
    std::memcpy(run.iov_base, header.data(), run.iov_len);
    header = header.subspan(run.iov_len);
  }
  return std::unique_ptr<ReadPromotion>(new ReadPromotion(core, id, std::move(space), units));
}

ReadPromotion::ReadPromotion(ChunkStore::Core* core, uint32_t id, std::shared_ptr<ArenaSpace> space,
                             uint32_t units)
    : core_(core), id_(id), space_(std::move(space)), claimed_(units), missing_(units) {
  core_->index[id_].set(IndexEntry::moving_up);
  core_->promoting_bytes += space_->bytes();
}

ReadPromotion::~ReadPromotion() {
  core_->promoting_bytes -= space_->bytes();
  if (missing_ == 0) return;
  core_->index[id_].clear(IndexEntry::moving_up);
  core_->metrics.promotions_abandoned.add();
  core_->mover.arrived(id_, error(StatusCode::kUnavailable, "its reader left: try again"));
}

bool ReadPromotion::claim(uint32_t first_unit, uint32_t units) {
  const auto first = claimed_.begin() + first_unit;
  if (std::find(first, first + units, true) != first + units) return false;
  std::fill(first, first + units, true);
  return true;
}

void ReadPromotion::arrived(uint32_t units) {
  missing_ -= units;
  if (missing_ == 0) finish();
}

void ReadPromotion::finish() {
  IndexEntry& entry = core_->index[id_];
  entry.clear(IndexEntry::moving_up);
  const bool wanted = !entry.has(IndexEntry::doomed) && entry.resident == kNoEntry;
  if (wanted) {
    space_->commit(entry.generation);
    core_->attach_dram(id_, space_);
    core_->metrics.promotions.add();
  }
  core_->mover.arrived(id_, wanted ? ok_status() : Status(StatusCode::kNotFound));
}
}  // namespace terrace
