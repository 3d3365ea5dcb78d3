#include "storage/slab_registry.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "storage/core.h"

namespace terrace {
namespace {
constexpr Nanos kPopulatePeriod = milliseconds(20);
constexpr Nanos kReplacePeriod = milliseconds(2);
constexpr Nanos kStepPeriod = microseconds(200);
}  // namespace

SlabRegistry::SlabRegistry(ChunkStore::Core& core) : core_(core), timer_([this] { look(); }) {}

void SlabRegistry::start() {
  slabs_.resize(core_.arena->slab_count());
  look();
}

bool SlabRegistry::knows_all() const {
  return core_.arena->populated() && known_ == core_.arena->slabs_populated();
}

bool SlabRegistry::add() {
  if (!core_.arena->add()) return false;
  core_.loop->arm(&timer_, core_.loop->now());
  return true;
}

void SlabRegistry::stop() {
  core_.loop->disarm(&timer_);
}

void SlabRegistry::listen(ChunkStore::SlabListener listener) {
  listener_ = std::move(listener);
  for (uint32_t slab = 0; slab < slabs_.size(); ++slab) {
    if (slabs_[slab].present) tell(slab);
  }
}

void SlabRegistry::tell(uint32_t slab) {
  if (listener_) listener_(slab, core_.arena->memory_of(slab), slabs_[slab].present);
}

void SlabRegistry::came(uint32_t slab) {
  slabs_[slab].present = true;
  if (core_.hbm != nullptr) core_.hbm->host_memory(core_.arena->memory_of(slab), true);
  tell(slab);
  if (core_.has_nvme()) moving_.push_back(slab);
}

void SlabRegistry::replace(uint32_t slab, DomainId next) {
  TERRACE_CHECK(slabs_[slab].present);
  slabs_[slab].present = false;
  slabs_[slab].next = next;
  if (core_.hbm != nullptr) core_.hbm->host_memory(core_.arena->memory_of(slab), false);
  tell(slab);
  std::erase(moving_, slab);
  moving_.insert(moving_.begin(), slab);  // somebody waits for it
  core_.loop->arm(&timer_, core_.loop->now());
}

void SlabRegistry::look() {
  if (core_.closing()) return;  // who closes waits for all that was started
  Arena& arena = *core_.arena;
  const uint32_t populated = arena.slabs_populated();
  std::vector<uint32_t> fresh;
  while (known_ < populated) fresh.push_back(arena.populated_slab(known_++));
  for (uint32_t slab : fresh) came(slab);
  for (const auto& [slab, present] : arena.replaced()) {
    if (slab >= slabs_.size()) slabs_.resize(slab + 1);
    slabs_[slab] = Slab();
    if (present) came(slab);
    core_.balancer.replaced(slab);
    fresh.push_back(slab);
  }
  if (!fresh.empty()) core_.evictor.kick();
  if (!moving_.empty() && step(moving_.front())) moving_.erase(moving_.begin());
  Nanos wait = Nanos::max();
  if (!arena.populated()) wait = kPopulatePeriod;
  if (arena.replacing() > 0) wait = kReplacePeriod;
  if (!moving_.empty()) wait = kStepPeriod;
  if (wait != Nanos::max()) core_.loop->arm(&timer_, core_.loop->now() + wait);
}

/// True: no more is to be done with the device.
bool SlabRegistry::step(uint32_t slab) {
  Slab& state = slabs_[slab];
  const std::span<std::byte> memory = core_.arena->memory_of(slab);
  if (state.present) {
    const uint64_t bytes = std::min<uint64_t>(kStepBytes, memory.size() - state.registered);
    core_.nvme->expect_memory(memory.subspan(state.registered, bytes));
    state.registered += bytes;
    return state.registered == memory.size();
  }
  if (state.registered > 0) {
    const uint64_t first = (state.registered - 1) / kStepBytes * kStepBytes;
    core_.nvme->forget_memory(memory.subspan(first, state.registered - first));
    state.registered = first;
  }
  if (state.registered > 0) return false;
  core_.arena->replace(slab, state.next);
  return true;
}
}  // namespace terrace
