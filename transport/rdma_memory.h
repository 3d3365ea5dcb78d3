// transport/rdma_memory.h - which memory the devices know, and the buffers for what they do not.
// Memory that nobody announced is never registered on the fly: it may be unmapped and mapped anew
// behind our back, and a kept registration would then move other bytes. Thread-confined.
#pragma once
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/limits.h"
#include "base/region.h"
#include "transport/rdma_device.h"

namespace terrace {

class RdmaMemory {
 public:
  /// Registers the bounce buffers. kResourceExhausted. `devices` and `metrics` outlive it.
  static StatusOr<std::unique_ptr<RdmaMemory>> create(
      const RdmaOptions& options, std::span<const std::unique_ptr<RdmaDevice>> devices,
      RdmaMetrics* metrics);

  /// For this side's operations and, by grants, for those of peers. kResourceExhausted.
  Status add_region(RegionId region, std::span<std::byte> memory);
  void remove_region(RegionId region);
  /// For this side's operations only; one that cannot be registered is bounced.
  void expect(std::span<std::byte> memory);
  void forget(std::span<std::byte> memory);

  /// The part of `memory` from its start that one registration covers; empty when none does.
  struct Local {
    uint32_t key = 0;
    size_t bytes = 0;
  };
  Local find_local(size_t device, std::span<const std::byte> memory) const;
  /// Appends what a peer on `device` needs to reach `memory`, a part of `region`.
  void find_remote(size_t device, RegionId region, std::span<const std::byte> memory,
                   std::vector<RdmaGrantEntry>* entries) const;

  /// A registered buffer of at least `bytes` (at most 1 MiB); empty when all are in use.
  std::span<std::byte> take_bounce(size_t bytes);
  void give_back_bounce(std::span<std::byte> buffer);

 private:
  static constexpr size_t kSliceBytes = kGiB;
  static constexpr size_t kSmallBytes = 16 * kKiB;
  struct Registered {
    std::span<std::byte> memory;
    std::vector<std::vector<VerbsMemory>> slices;  // [device][slice]
  };
  using ByAddress = std::map<uintptr_t, Registered>;

  RdmaMemory(BufferPool large, BufferPool small,
             std::span<const std::unique_ptr<RdmaDevice>> devices, RdmaMetrics* metrics)
      : devices_(devices), metrics_(metrics), large_(std::move(large)), small_(std::move(small)) {}
  StatusOr<Registered> make_registered(std::span<std::byte> memory, int access) const;
  void count(const Registered& registered, bool added) const;

  const std::span<const std::unique_ptr<RdmaDevice>> devices_;
  RdmaMetrics* const metrics_;
  BufferPool large_;
  BufferPool small_;
  std::map<RegionId, Registered> regions_;
  ByAddress expected_;
  std::map<uintptr_t, RegionId> regions_by_address_;
};
}  // namespace terrace
