#include "storage/hbm_tier.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "storage/core.h"
#include "storage/hbm_space.h"
#include "storage/object_io.h"

namespace terrace {
namespace {
constexpr auto kHbm = static_cast<size_t>(Tier::hbm);
constexpr Nanos kLookPeriod = milliseconds(5);
}  // namespace

/// Where the accelerator's threads say what ended.
struct HbmTier::Inbox {
  std::mutex mutex;
  std::vector<std::pair<uint64_t, DeviceResult>> ended;  // guarded by mutex, as all here
  HbmTier* tier = nullptr;                               // null: it is gone; used on the loop only
  Loop* loop = nullptr;
  bool told = false;

  static void put(const std::shared_ptr<Inbox>& inbox, uint64_t number, const DeviceResult& how) {
    const std::lock_guard lock(inbox->mutex);
    if (inbox->loop == nullptr) return;
    inbox->ended.emplace_back(number, how);
    // When the mailbox is full the timer looks.
    if (!inbox->told) inbox->told = inbox->loop->post([inbox] { open(inbox); }).ok();
  }
  static void open(const std::shared_ptr<Inbox>& inbox) {
    HbmTier* const tier = inbox->tier;
    if (tier != nullptr) tier->collect();
  }
};

HbmTier::HbmTier(ChunkStore::Core& core, std::shared_ptr<Accelerator> accelerator)
    : core_(core),
      accelerator_(std::move(accelerator)),
      inbox_(std::make_shared<Inbox>()),
      timer_([this] { look(); }),
      resize_timer_([this] { resize_when_idle(); }) {
  inbox_->tier = this;
  inbox_->loop = core.loop;
}

HbmTier::~HbmTier() {
  core_.loop->disarm(&timer_);
  core_.loop->disarm(&resize_timer_);
  {
    const std::lock_guard lock(inbox_->mutex);
    inbox_->tier = nullptr;
    inbox_->loop = nullptr;
  }
  if (hanging_ == 0 && lent_.use_count() == 1) return;
  // The device may still be at it, or clients: neither its memory nor ours may go.
  struct Rest {
    std::unique_ptr<DeviceSlab> slab;
    std::shared_ptr<Accelerator> accelerator;
    std::map<uint64_t, Transfer> transfers;
  };
  static auto* const for_ever = new std::vector<Rest>;
  for_ever->push_back({std::move(slab_), accelerator_, std::move(transfers_)});
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
  transfer(true, space, 0, memory, source,
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

// Copies of both directions.

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
  transfer(false, copies_.at(id), offset, into, std::move(hold),
           [this, then = std::move(then)](const Status& result) {
             --reading_;
             then(result);
           });
}

void HbmTier::transfer(bool in, const std::shared_ptr<HbmSpace>& space, uint64_t offset,
                       std::span<const iovec> host, std::shared_ptr<void> hold, Then then) {
  std::vector<IoPiece> parts;
  add_pieces(space->extents(), offset, host, &parts);
  std::vector<DeviceSlab::Piece> pieces;
  for (const IoPiece& part : parts) {
    pieces.push_back({part.offset, part.memory.data(), part.memory.size()});
  }
  const uint64_t number = ++last_transfer_;
  transfers_[number] = {core_.loop->now() + core_.config.device_timeout, space, std::move(hold),
                        std::move(then)};
  const auto ended = [inbox = inbox_, number](const DeviceResult& how) {
    Inbox::put(inbox, number, how);
  };
  const DeviceResult started = in ? slab_->copy_in(pieces, ended) : slab_->copy_out(pieces, ended);
  if (!started.ok()) ended(started);
  if (!timer_.armed()) core_.loop->arm(&timer_, core_.loop->now() + kLookPeriod);
}

void HbmTier::collect() {
  std::vector<std::pair<uint64_t, DeviceResult>> ended;
  {
    const std::lock_guard lock(inbox_->mutex);
    ended.swap(inbox_->ended);
    inbox_->told = false;
  }
  for (const auto& [number, how] : ended) {
    auto node = transfers_.extract(number);
    TERRACE_CHECK(!node.empty());
    if (node.mapped().then == nullptr) {
      if (--hanging_ == 0) spdlog::info("event=hbm_answers_again");
      continue;
    }
    const Status result =
        how.ok() ? ok_status()
                 : error(StatusCode::kUnavailable, accelerator_->name() + ": " + how.message);
    judge(result);
    node.mapped().then(result);
  }
}

void HbmTier::judge(const Status& result) {
  errors_ = result.ok() ? 0 : errors_ + 1;
  if (result.ok()) return;
  core_.metrics.hbm_errors.add();
  spdlog::warn("event=hbm_copy error=\"{}\"", result.to_string());
  if (errors_ < kErrorsMax || failed_) return;
  failed_ = true;
  drop_all();
  take_back();
  spdlog::error("event=hbm_given_up device=\"{}\" errors={}: restart the node to use it again",
                accelerator_->name(), errors_);
}

void HbmTier::look() {
  collect();
  const Nanos now = core_.loop->now();
  std::vector<Then> late;
  for (auto& [number, transfer] : transfers_) {
    if (transfer.deadline > now) break;
    if (transfer.then == nullptr) continue;
    late.push_back(std::exchange(transfer.then, nullptr));
    ++hanging_;
  }
  if (!late.empty()) {
    core_.metrics.hbm_errors.add(late.size());
    spdlog::warn("event=hbm_hangs device=\"{}\" copies={}", accelerator_->name(), hanging_);
    drop_all();
    take_back();
  }
  for (const Then& then : late) then(error(StatusCode::kDeadlineExceeded, "hbm hangs"));
  if (!transfers_.empty()) core_.loop->arm(&timer_, now + kLookPeriod);
}
}  // namespace terrace
