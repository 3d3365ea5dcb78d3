// storage/device_choice.h - which device of the nvme tier gets the next object, and which one is
// slow. Pure functions over what was measured.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace terrace {

/// What a device looks like when a place for an object is wanted.
struct DeviceLoad {
  uint64_t free_bytes = 0;
  uint64_t capacity_bytes = 0;
  uint64_t queued_bytes = 0;  // writes that run or wait
  bool accepts = true;        // gets new objects at all
};

/// The devices that may get an object of `bytes`, the best first: much free space and a short queue
/// are good. What has no room is left out.
std::vector<size_t> choose_devices(std::span<const DeviceLoad> devices, uint64_t bytes);

/// What was measured of the writes of a device lately.
struct DevicePace {
  double write_us = 0;    // of one request
  bool measured = false;  // there were some
};

/// Its writes take many times longer than its peers' (their median), and long at all. Never of a
/// device without peers.
bool is_slow(std::span<const DevicePace> devices, size_t which);
}  // namespace terrace
