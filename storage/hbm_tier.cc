#include "storage/hbm_tier.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "storage/core.h"
#include "storage/hbm_space.h"
#include "storage/object_io.h"

namespace terrace {
namespace {
constexpr auto kHbm = static_cast<size_t>(Tier::hbm);
}  // namespace

HbmTier::HbmTier(ChunkStore::Core& core, std::shared_ptr<Accelerator> accelerator)
    : core_(core),
      accelerator_(std::move(accelerator)),
      transfers_(core, accelerator_->name(),
                 [this] {
                   drop_all();
                   take_back();
                 }),
      resize_timer_([this] { resize_when_idle(); }) {}

HbmTier::~HbmTier() {
  core_.loop->disarm(&resize_timer_);
  if (hanging() == 0 && lent_.use_count() == 1) return;
  // The device may still be at it, or clients: neither its memory nor ours may go.
  struct Rest {
    std::unique_ptr<DeviceSlab> slab;
    std::shared_ptr<Accelerator> accelerator;
    std::shared_ptr<void> touched;
  };
  static auto* const for_ever = new std::vector<Rest>;
  for_ever->push_back({std::move(slab_), accelerator_, transfers_.leave()});
}

Status HbmTier::open() {
  return make_slab(core_.config.hbm_bytes);
}

Status HbmTier::make_slab(uint64_t bytes) {
  const DeviceResult made = accelerator_->make_slab(bytes, &slab_);
  if (!made.ok()) {
    return error(StatusCode::kResourceExhausted, "hbm_bytes=" + std::to_string(bytes) + " on " +
                                                     accelerator_->name() + ": " + made.message +
                                                     " (lower it, or free memory of the device)");
  }
  map_ = std::make_shared<ExtentMap>(0, bytes);
  spdlog::info("event=hbm_tier device=\"{}\" bytes={}", accelerator_->name(),
               map_->capacity_bytes());
  return ok_status();
}

void HbmTier::host_memory(std::span<std::byte> memory, bool present) {
  const DeviceResult said =
      present ? accelerator_->expect_host(memory) : accelerator_->forget_host(memory);
  if (!said.ok()) spdlog::warn("event=hbm_host_memory error=\"{}\"", said.message);
}

// Copies in.

void HbmTier::used(uint32_t id) {
  if (stopped_ || resizing_ != nullptr || !works() || coming_.size() >= kCopiesInMax) return;
  const IndexEntry& entry = core_.index[id];
  if (entry.resident == kNoEntry || has(id) || coming_.contains(id)) return;
  if (only_for_ != kNobody && core_.domain_of(entry.ns) != only_for_) return;
  const std::shared_ptr<ArenaSpace>& source = core_.dram_of(id);
  if (!source->verified()) return;
  const std::shared_ptr<HbmSpace> space = room_for(id, *source);
  if (space == nullptr) return core_.metrics.hbm_unworthy.add();
  std::vector<iovec> memory;
  source->memory(0, space->bytes(), &memory);
  coming_.emplace(id, true);
  transfers_.start(HbmTransfers::Direction::in, slab_.get(), space, 0, memory, source,
                   [this, id, generation = entry.generation, space](const Status& result) {
                     came(id, generation, space, result);
                   });
}

void HbmTier::came(uint32_t id, uint64_t generation, const std::shared_ptr<HbmSpace>& space,
                   const Status& result) {
  const bool wanted = coming_.extract(id).mapped();
  if (!wanted || !result.ok() || stopped_ || resizing_ != nullptr || !works()) return;
  if (core_.index.same(id, generation) == nullptr) return;  // gone meanwhile
  copies_[id] = space;
  core_.policy->entered(Tier::hbm, kList, id);
  core_.metrics.writes[kHbm].add();
  core_.metrics.write_bytes[kHbm].add(space->bytes());
}

std::shared_ptr<HbmSpace> HbmTier::room_for(uint32_t id, const ArenaSpace& source) {
  if (!core_.worth(id, Tier::hbm, core_.price(Tier::hbm, kList))) return nullptr;
  std::shared_ptr<HbmSpace> space = room_for_all(id);
  return space != nullptr ? space : room_for_first(id, source);
}

std::shared_ptr<HbmSpace> HbmTier::room_for_first(uint32_t id, const ArenaSpace& source) {
  const IndexEntry& entry = core_.index[id];
  const StatusOr<ObjectHeader> header = read_arena_header(source, entry);
  if (!header.ok()) return nullptr;
  const ObjectLayout layout(uint64_t{entry.header_blocks} * kSectorBytes, header->sections);
  for (size_t sections = header->sections.size() / 2; sections > 0; sections /= 2) {
    const uint64_t bytes = layout.section_offset(static_cast<uint32_t>(sections));
    if (bytes < kFirstBytesMin) return nullptr;
    StatusOr<std::vector<Extent>> extents = map_->allocate(bytes);
    if (extents.ok()) return std::make_shared<HbmSpace>(map_, std::move(*extents), bytes);
  }
  return nullptr;
}

std::shared_ptr<HbmSpace> HbmTier::room_for_all(uint32_t id) {
  const uint64_t bytes = core_.index[id].stored_bytes();
  if (bytes > capacity_bytes()) return nullptr;
  // Space is in size classes, so what was freed may not fit yet: then more.
  for (uint64_t goal = bytes; goal <= 2 * capacity_bytes(); goal *= 2) {
    StatusOr<std::vector<Extent>> extents = map_->allocate(bytes);
    if (extents.ok()) return std::make_shared<HbmSpace>(map_, std::move(*extents), bytes);
    std::vector<uint32_t> victims;
    uint64_t won = 0;
    size_t seen = 0;
    const Nanos now = core_.loop->now();
    core_.policy->walk(Tier::hbm, kList, now, [&](uint32_t victim) {
      const bool enough = won >= goal || seen++ == 4 * kVictimsMax || victims.size() == kVictimsMax;
      if (enough || !core_.worth(id, Tier::hbm, core_.policy->value(victim, now))) {
        return PlacementPolicy::Visit::stop;
      }
      // What is read, or in view, would give nothing back.
      if (copies_.at(victim).use_count() > 1) return PlacementPolicy::Visit::passed;
      victims.push_back(victim);
      won += copies_.at(victim)->bytes();
      return PlacementPolicy::Visit::taken;
    });
    if (victims.empty()) return nullptr;
    for (const uint32_t victim : victims) {
      core_.metrics.evictions[kHbm].add();
      core_.metrics.evicted_bytes[kHbm].add(copies_.at(victim)->bytes());
      drop(victim);
    }
    core_.evictor.kick();  // it tells the price
  }
  return nullptr;
}

void HbmTier::drop(uint32_t id) {
  if (const auto it = coming_.find(id); it != coming_.end()) it->second = false;
  if (copies_.erase(id) > 0) core_.policy->left(Tier::hbm, id);
}

void HbmTier::damaged(uint32_t id) {
  const IndexEntry& entry = core_.index[id];
  spdlog::warn("quarantine key={} ns={} generation={} tier=hbm", entry.key.hex(),
               static_cast<uint32_t>(entry.ns), entry.generation);
  core_.metrics.crc_failures_hbm.add();
  // Also when another read has dropped the copy already: views of it are left.
  if (core_.on_quarantine) core_.on_quarantine(entry.key);
  const auto it = copies_.find(id);
  // Memory that is open elsewhere was more likely written to than broken.
  if (it != copies_.end() && loan_ == nullptr) it->second->withhold();
  drop(id);
}

void HbmTier::drop_all() {
  for (auto& [id, wanted] : coming_) wanted = false;
  while (!copies_.empty()) drop(copies_.begin()->first);
}

// Copies out.

uint64_t HbmTier::bytes_of(uint32_t id) const {
  const auto found = copies_.find(id);
  return found == copies_.end() ? 0 : found->second->bytes();
}

bool HbmTier::has_all(uint32_t id) const {
  return has(id) && bytes_of(id) == core_.index[id].stored_bytes();
}

bool HbmTier::serves(uint32_t id, uint64_t end) const {
  const size_t buffers = core_.staging == nullptr ? 0 : core_.staging->buffers();
  return reading_ < std::max<size_t>(1, buffers / 4) && end <= bytes_of(id);
}

void HbmTier::read(uint32_t id, uint64_t offset, std::span<const iovec> into,
                   std::shared_ptr<void> hold, Then then) {
  core_.metrics.reads[kHbm].add();
  for (const iovec& run : into) core_.metrics.read_bytes[kHbm].add(run.iov_len);
  ++reading_;
  transfers_.start(HbmTransfers::Direction::out, slab_.get(), copies_.at(id), offset, into,
                   std::move(hold), [this, then = std::move(then)](const Status& result) {
                     --reading_;
                     then(result);
                   });
}
}  // namespace terrace
