#include "storage/device_choice.h"

#include <algorithm>

namespace terrace {
namespace {
constexpr double kQueueUnit = 8 << 20;  // so many bytes in the queue halve what free space is worth
constexpr double kSlowFactor = 8;
constexpr double kSlowUs = 20'000;  // less is no trouble, whatever the peers do
}  // namespace

std::vector<size_t> choose_devices(std::span<const DeviceLoad> devices, uint64_t bytes) {
  std::vector<std::pair<double, size_t>> scored;
  for (size_t i = 0; i < devices.size(); ++i) {
    const DeviceLoad& each = devices[i];
    if (!each.accepts || each.free_bytes < bytes || each.capacity_bytes == 0) continue;
    // By share, so that devices of different sizes are full at the same time.
    const double share =
        static_cast<double>(each.free_bytes) / static_cast<double>(each.capacity_bytes);
    const double queue = static_cast<double>(each.queued_bytes) / kQueueUnit;
    scored.emplace_back(-(share + 0.01) / (1 + queue), i);
  }
  std::sort(scored.begin(), scored.end());
  std::vector<size_t> out;
  for (const auto& [score, i] : scored) out.push_back(i);
  return out;
}

bool is_slow(std::span<const DevicePace> devices, size_t which) {
  if (!devices[which].measured || devices[which].write_us < kSlowUs) return false;
  std::vector<double> peers;
  for (size_t i = 0; i < devices.size(); ++i) {
    if (i != which && devices[i].measured) peers.push_back(devices[i].write_us);
  }
  if (peers.empty()) return false;
  const auto middle = peers.begin() + static_cast<std::ptrdiff_t>(peers.size() / 2);
  std::nth_element(peers.begin(), middle, peers.end());
  return devices[which].write_us > kSlowFactor * *middle;
}
}  // namespace terrace
