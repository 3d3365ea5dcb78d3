#include "storage/nvme_tier.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "storage/nvme_unit.h"
#include "storage/object_io.h"

namespace terrace {

NvmeTier::NvmeTier(const std::vector<NvmeDevice>& devices, Loop* loop, const StoreConfig& config,
                   StoreMetrics* metrics)
    : loop_(loop), metrics_(metrics), opened_(loop->now()), prober_([this] { probe(); }) {
  TERRACE_CHECK(devices.size() <= kStoreDevicesMax);
  for (const NvmeDevice& given : devices) {
    auto unit = std::make_unique<Unit>();
    unit->given = given;
    unit->index = units_.size();
    NvmeDeviceMetrics& counts = metrics->devices[unit->index];
    counts.path = given.path;
    counts.place = given.place;
    if (given.device != nullptr) {
      unit->map = std::make_unique<NvmeMap>(given.device->size_bytes(), given.place);
      unit->queue = std::make_unique<DeviceQueue>(given.device, loop, config, metrics, &counts);
    }
    TERRACE_CHECK(by_place_[given.place] == nullptr);
    by_place_[given.place] = unit.get();
    units_.push_back(std::move(unit));
  }
  metrics->device_count.set(units_.size());
  loop->arm(&prober_, loop->now() + kProbePeriod);
}

NvmeTier::~NvmeTier() {
  stop();
}

void NvmeTier::stop() {
  stopped_ = true;
  loop_->disarm(&prober_);
}

void NvmeTier::close() {
  stop();
  for (const auto& unit : units_) unit->queue.reset();
}

NvmeTier::Unit* NvmeTier::unit_of(uint16_t place) const {
  return place < by_place_.size() ? by_place_[place] : nullptr;
}

NvmeTier::Unit* NvmeTier::unit_of(std::span<const Extent> extents) const {
  return extents.empty() ? nullptr : unit_of(extents[0].device);
}

StatusOr<NvmeTier::Unit*> NvmeTier::asked_for(uint16_t place) const {
  if (Unit* const unit = unit_of(place)) return unit;
  return error(StatusCode::kNotFound,
               "device " + std::to_string(place) + " of the nvme tier: there is none");
}

Status NvmeTier::refused(const Unit& unit, const std::string& why) {
  return error(StatusCode::kUnavailable,
               "device " + std::to_string(unit.given.place) + " of the nvme tier " + why);
}

bool NvmeTier::there(const Unit& unit) const {
  return unit.map != nullptr;
}

bool NvmeTier::readable(const Unit& unit) const {
  return unit.queue != nullptr && !unit.fenced && unit.queue->healthy();
}

bool NvmeTier::accepts(const Unit& unit) const {
  return readable(unit) && !unit.draining && loop_->now() >= unit.rests_until;
}

/// With nowhere else to go, one that rests or hangs is asked all the same: it may answer.
bool NvmeTier::usable(const Unit& unit) const {
  if (accepts(unit)) return true;
  const bool others = std::any_of(units_.begin(), units_.end(),
                                  [this](const auto& each) { return accepts(*each); });
  return !others && there(unit) && !unit.draining;
}

DeviceHealth NvmeTier::health_of(const Unit& unit) const {
  if (!there(unit)) return DeviceHealth::missing;
  if (!readable(unit)) return DeviceHealth::fenced;
  if (unit.draining) return DeviceHealth::draining;
  if (loop_->now() >= unit.rests_until) return DeviceHealth::ok;
  return unit.rests_slow ? DeviceHealth::slow : DeviceHealth::fenced;
}

/// Every now and then; who is slow rests, and is tried again.
void NvmeTier::look_for_slow() {
  const Nanos now = loop_->now();
  if (units_.size() < 2 || now - looked_ < kLookPeriod) return;
  looked_ = now;
  std::vector<DevicePace> paces;
  for (const auto& unit : units_) {
    const bool counts = readable(*unit) && now >= unit->rests_until;
    paces.push_back(counts ? unit->queue->write_pace() : DevicePace());
  }
  for (const auto& unit : units_) {
    if (!is_slow(paces, unit->index)) continue;
    spdlog::warn("event=device_slow path={} write_us={}", unit->given.path,
                 static_cast<uint64_t>(paces[unit->index].write_us));
    unit->rests_until = now + kRest;
    unit->rests_slow = true;
    unit->queue->forget_pace();
    metrics_->devices[unit->index].slow_rests.add();
  }
}

std::vector<NvmeTier::Unit*> NvmeTier::choose(uint64_t bytes, const Places& avoid) {
  look_for_slow();
  std::vector<DeviceLoad> loads;
  for (const auto& unit : units_) {
    DeviceLoad load;
    const bool refused = std::find(avoid.begin(), avoid.end(), unit->given.place) != avoid.end();
    load.accepts = !refused && usable(*unit);
    if (load.accepts) {
      load.free_bytes = unit->map->free_bytes();
      load.capacity_bytes = unit->map->capacity_bytes();
      load.queued_bytes = unit->queue->queued_write_bytes();
    }
    loads.push_back(load);
  }
  std::vector<Unit*> out;
  for (const size_t i : choose_devices(loads, bytes)) out.push_back(units_[i].get());
  return out;
}

std::shared_ptr<NvmeSpace> NvmeTier::allocate(uint64_t bytes, const Places& avoid) {
  for (Unit* const unit : choose(bytes, avoid)) {
    if (std::shared_ptr<NvmeSpace> space = unit->map->allocate(bytes)) return space;
  }
  return nullptr;
}

NvmeSpaces NvmeTier::allocate_together(std::span<const uint64_t> sizes) {
  for (Unit* const unit : choose(kMiB, {})) {
    auto spaces = unit->map->allocate_together(sizes);
    if (!spaces.empty()) return spaces;
  }
  return {};
}

Status NvmeTier::claim(std::span<const Extent> extents, uint64_t bytes) {
  Unit* const unit = unit_of(extents);
  const bool one = std::all_of(extents.begin(), extents.end(), [&](const Extent& each) {
    return each.device == extents[0].device;
  });
  if (unit == nullptr || !one) {
    return error(StatusCode::kDataLoss,
                 one ? "its device is not of this data directory" : "extents on two devices");
  }
  return there(*unit) ? unit->map->claim(extents, bytes) : ok_status();
}

void NvmeTier::free(std::span<const Extent> extents, uint64_t bytes) {
  Unit* const unit = unit_of(extents);
  if (unit != nullptr && there(*unit)) unit->map->free(extents, bytes);
}

void NvmeTier::withhold(std::span<const Extent> extents) {
  Unit* const unit = unit_of(extents);
  if (unit != nullptr && there(*unit)) unit->map->withhold(extents);
}

void NvmeTier::on_freed(std::function<void()> freed) {
  for (const auto& unit : units_) {
    if (there(*unit)) unit->map->on_freed(freed);
  }
}

uint64_t NvmeTier::capacity_bytes() const {
  uint64_t bytes = 0;
  for (const auto& unit : units_) bytes += usable(*unit) ? unit->map->capacity_bytes() : 0;
  return bytes;
}

uint64_t NvmeTier::free_bytes() const {
  uint64_t bytes = 0;
  for (const auto& unit : units_) bytes += usable(*unit) ? unit->map->free_bytes() : 0;
  return bytes;
}

uint64_t NvmeTier::total_bytes() const {
  uint64_t bytes = 0;
  for (const auto& unit : units_) bytes += there(*unit) ? unit->map->capacity_bytes() : 0;
  return bytes;
}

uint64_t NvmeTier::used_bytes() const {
  uint64_t bytes = 0;
  for (const auto& unit : units_) bytes += there(*unit) ? unit->map->used_bytes() : 0;
  return bytes;
}

NvmeTier::Places NvmeTier::places_that_make_room(uint64_t bytes) const {
  Places places;
  for (const auto& unit : units_) {
    if (usable(*unit) && unit->map->capacity_bytes() >= bytes) places.push_back(unit->given.place);
  }
  return places;
}

uint64_t NvmeTier::object_bytes_max() const {
  uint64_t most = 0;
  for (const auto& unit : units_) {
    if (there(*unit)) most = std::max(most, unit->map->capacity_bytes());
  }
  return most;
}

void NvmeTier::transfer(TransferSpec spec) {
  Unit* const unit = unit_of(spec.pieces[0].device);
  const bool refused = unit == nullptr || !there(*unit) || unit->fenced ||
                       (units_.size() > 1 && !unit->queue->healthy());
  if (refused) {
    const std::string path = unit == nullptr ? std::string() : unit->given.path;
    loop_->defer([done = std::move(spec.done), path] {
      done(error(StatusCode::kUnavailable, path + ": the device is missing or does not answer"));
    });
    return;
  }
  spec.done = [this, unit, kind = spec.kind, done = std::move(spec.done)](const Status& result) {
    done(ended(unit, kind, result));
  };
  unit->queue->transfer(std::move(spec));
}

Status NvmeTier::ended(Unit* unit, IoKind kind, const Status& result) {
  uint32_t& errors = kind == IoKind::read ? unit->read_errors : unit->write_errors;
  if (result.ok()) {
    errors = 0;
    return result;
  }
  // Late ones are the queue's concern: it knows when the device lives again.
  if (result.code() == StatusCode::kDeadlineExceeded) return result;
  ++errors;
  count_errors(unit, kind, errors, result);
  // One bad sector is its object's loss; what fails read after read is the device, and may come
  // back.
  const bool burst = errors > 1 || unit->fenced;
  if (kind == IoKind::read && result.code() == StatusCode::kDataLoss && burst) {
    return error(StatusCode::kUnavailable,
                 unit->given.path + ": read errors in a row: " + result.message());
  }
  return result;
}

/// With nowhere else to go, nobody is left alone.
void NvmeTier::count_errors(Unit* unit, IoKind kind, uint32_t errors, const Status& result) {
  if (units_.size() == 1) return;
  if (kind == IoKind::read && errors >= kReadErrorsMax && !unit->fenced) {
    spdlog::error("event=device_fenced path={} error=\"{}\"", unit->given.path, result.to_string());
    unit->fenced = true;
    unit->probes_good = 0;
    metrics_->devices[unit->index].fences.add();
  }
  if (kind == IoKind::write && errors >= kWriteErrorsMax) {
    spdlog::error("event=device_refuses_writes path={} error=\"{}\"", unit->given.path,
                  result.to_string());
    unit->write_errors = 0;
    unit->rests_until = loop_->now() + kRest;
    unit->rests_slow = false;
    metrics_->devices[unit->index].fences.add();
  }
}

void NvmeTier::probe() {
  if (stopped_) return;
  loop_->arm(&prober_, loop_->now() + kProbePeriod);
  for (const auto& unit : units_) {
    const bool asks = unit->fenced || (there(*unit) && unit->queue->hanging() > 0);
    if (asks && !unit->probing) probe(unit.get());
  }
}

/// Reads the identity block; what is fenced answers again after some that came well. One that lost
/// a request for good and answers this one makes progress, for its queue.
void NvmeTier::probe(Unit* unit) {
  unit->probing = true;
  unit->probe_memory = std::make_shared<SectorMemory>(kSectorBytes);
  TransferSpec spec;
  spec.pieces = {{0, unit->probe_memory->span(), unit->given.place}};
  spec.holds = {unit->probe_memory};
  spec.done = [unit](const Status& result) {
    unit->probing = false;
    unit->probes_good = result.ok() ? unit->probes_good + 1 : 0;
    if (!unit->fenced || unit->probes_good < kProbesGood) return;
    spdlog::info("event=device_answers_again path={}", unit->given.path);
    unit->fenced = false;
    unit->read_errors = 0;
  };
  unit->queue->transfer(std::move(spec));
}

void NvmeTier::sync(const NvmeSpace& space, std::function<void(Status)> done) {
  Unit* const unit = unit_of(space.extents());
  unit->queue->sync(std::move(done));
}

bool NvmeTier::serves(std::span<const Extent> extents) const {
  const Unit* const unit = unit_of(extents);
  return unit != nullptr && readable(*unit);
}

bool NvmeTier::works() const {
  return std::any_of(units_.begin(), units_.end(),
                     [this](const auto& unit) { return readable(*unit) && !unit->draining; });
}

bool NvmeTier::missing(uint16_t place) const {
  const Unit* const unit = unit_of(place);
  return unit != nullptr && !there(*unit);
}

bool NvmeTier::idle() const {
  return std::all_of(units_.begin(), units_.end(),
                     [](const auto& unit) { return !unit->queue || unit->queue->idle(); });
}

size_t NvmeTier::hanging() const {
  size_t count = 0;
  for (const auto& unit : units_) count += unit->queue ? unit->queue->hanging() : 0;
  return count;
}

uint32_t NvmeTier::read_us() const {
  uint32_t us = 0;
  for (const auto& unit : units_) {
    if (readable(*unit)) us = std::max(us, unit->queue->read_us());
  }
  return us;
}

void NvmeTier::expect_memory(std::span<std::byte> memory) {
  for (const auto& unit : units_) {
    if (there(*unit)) unit->given.device->expect_memory(memory);
  }
}

void NvmeTier::forget_memory(std::span<std::byte> memory) {
  for (const auto& unit : units_) {
    if (there(*unit)) unit->given.device->forget_memory(memory);
  }
}

Device* NvmeTier::device_at(uint16_t place) const {
  const Unit* const unit = unit_of(place);
  return unit == nullptr ? nullptr : unit->given.device;
}

Status NvmeTier::set_draining(uint16_t place, bool draining) {
  TERRACE_ASSIGN_OR_RETURN(Unit* const unit, asked_for(place));
  if (!there(*unit)) return refused(*unit, "is missing");
  unit->draining = draining;
  return ok_status();
}
}  // namespace terrace
