// storage/nvme_tier.h - the devices of the nvme tier as one: where an object goes, who serves it,
// and who is left alone for a while. An object lies whole on one device, so a device that dies
// costs its own objects and no others. Thread-confined.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/loop.h"
#include "storage/device_choice.h"
#include "storage/device_queue.h"
#include "storage/nvme_device.h"
#include "storage/nvme_space.h"
#include "storage/store_config.h"
#include "storage/store_metrics.h"

namespace terrace {

class NvmeTier {
 public:
  /// A set of places.
  using Places = std::vector<uint16_t>;

  NvmeTier(const std::vector<NvmeDevice>& devices, Loop* loop, const StoreConfig& config,
           StoreMetrics* metrics);
  ~NvmeTier();
  /// Nothing is probed any more.
  void stop();
  /// Nothing runs or waits any more, but for what hangs: only space is given back from now on.
  void close();

  // Space.

  /// Space for an object on the best device that has it, none of `avoid`. Null when none has.
  std::shared_ptr<NvmeSpace> allocate(uint64_t bytes, const Places& avoid = {});
  /// Space for several next to each other, as NvmeMap::allocate_together; empty when there is none.
  NvmeSpaces allocate_together(std::span<const uint64_t> sizes);
  /// Recovery: as ExtentMap::claim; on one device, all of them. What lies on a missing one is taken
  /// as it is.
  Status claim(std::span<const Extent> extents, uint64_t bytes);
  void free(std::span<const Extent> extents, uint64_t bytes);
  /// As NvmeMap::withhold.
  void withhold(std::span<const Extent> extents);
  /// Called after space became free.
  void on_freed(std::function<void()> freed);
  /// Of the devices that get new objects; of all that are there, when none does.
  uint64_t capacity_bytes() const;
  uint64_t free_bytes() const;
  /// Of all that are there.
  uint64_t total_bytes() const;
  uint64_t used_bytes() const;
  /// Devices whose objects make room for one of `bytes` when they leave: it fits there, below the
  /// bar, once there is nothing else.
  Places places_that_make_room(uint64_t bytes) const;
  /// The most that one object could have on a device that is there, also on one that takes none
  /// just now, were all others gone.
  uint64_t object_bytes_max() const;

  // Reads and writes.

  /// As DeviceQueue::transfer; all pieces are of one device. kUnavailable: it is fenced or missing,
  /// or its reads fail in a row: then the device is at fault, not what lies there.
  void transfer(TransferSpec spec);
  /// As DeviceQueue::sync, of the device of `space`.
  void sync(const NvmeSpace& space, std::function<void(Status)> done);
  /// Objects there can be read.
  bool serves(std::span<const Extent> extents) const;
  /// Some device takes writes.
  bool works() const;
  bool known(uint16_t place) const { return unit_of(place) != nullptr; }
  bool missing(uint16_t place) const;
  bool idle() const;
  size_t hanging() const;
  /// As DeviceQueue::read_us, of the device of these extents; of all, the slowest.
  uint32_t read_us() const;
  /// As Device's, for every device.
  void expect_memory(std::span<std::byte> memory);
  void forget_memory(std::span<std::byte> memory);
  /// Null when it is missing.
  Device* device_at(uint16_t place) const;

  // For admins.

  /// kNotFound: no such device. kUnavailable: it is missing.
  Status set_draining(uint16_t place, bool draining);
  std::vector<DeviceStatus> status() const;

  // Trimming: nvme_trim.cc.

  /// kNotFound: no such device. kUnavailable: it is missing, slow, fenced or draining.
  Status may_trim(uint16_t place) const;
  /// As NvmeMap::take_untrimmed, of a device that is there.
  bool take_untrimmed(uint16_t place, uint64_t* next, Extent* out);
  /// The device said so: what was taken is free again.
  void end_trim(const Extent& extent, const Status& result);
  /// As NvmeMap's.
  void trim_hangs(const Extent& extent);
  void hung_trim_ended(const Extent& extent);

  // Another size: nvme_resize.cc. A device that is there.

  /// kNotFound: no such device. kUnavailable: it is missing or does not answer.
  Status may_resize(uint16_t place) const;
  /// Of the device, what lies behind the bar included.
  uint64_t device_bytes(uint16_t place) const;
  /// New objects go below `bytes` of the device; it is not trimmed any more.
  void bar_from(uint16_t place, uint64_t bytes);
  /// As before bar_from().
  void unbar(uint16_t place);
  uint64_t barred_used_bytes(uint16_t place) const;
  /// Some of it lies behind the bar of its device.
  bool barred(std::span<const Extent> extents) const;
  /// The device is so large now; not barred any more.
  void resized(uint16_t place, uint64_t bytes);

  void update_gauges();

 private:
  static constexpr uint32_t kReadErrorsMax = 8;   // in a row: fenced
  static constexpr uint32_t kWriteErrorsMax = 4;  // in a row: no new objects for a while
  static constexpr uint32_t kProbesGood = 3;      // in a row: not fenced any more
  static constexpr Nanos kProbePeriod = seconds(1);
  static constexpr Nanos kRest = seconds(10);
  static constexpr Nanos kLookPeriod = milliseconds(100);
  struct Unit;

  /// Devices that may have an object of `bytes`, the best first.
  std::vector<Unit*> choose(uint64_t bytes, const Places& avoid);
  Unit* unit_of(uint16_t place) const;
  Unit* unit_of(std::span<const Extent> extents) const;
  /// kNotFound: there is none.
  StatusOr<Unit*> asked_for(uint16_t place) const;
  /// kUnavailable, of a unit that was asked for.
  static Status refused(const Unit& unit, const std::string& why);
  bool there(const Unit& unit) const;
  bool readable(const Unit& unit) const;
  bool accepts(const Unit& unit) const;
  /// `accepts`, or there is none that does.
  bool usable(const Unit& unit) const;
  DeviceHealth health_of(const Unit& unit) const;
  void look_for_slow();
  /// What its caller is told.
  Status ended(Unit* unit, IoKind kind, const Status& result);
  void count_errors(Unit* unit, IoKind kind, uint32_t errors, const Status& result);
  void probe();
  void probe(Unit* unit);

  Loop* const loop_;
  StoreMetrics* const metrics_;
  const Nanos opened_;
  std::vector<std::unique_ptr<Unit>> units_;
  std::array<Unit*, 256> by_place_{};
  Nanos looked_{0};
  bool stopped_ = false;
  Timer prober_;
};
}  // namespace terrace
