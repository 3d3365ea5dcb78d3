// storage/store_metrics.h - what the tiers count. Written by the store's loop, read by any thread.
#pragma once
#include <array>
#include <string>

#include "base/chunk_key.h"
#include "base/counter.h"
#include "storage/departures.h"
#include "storage/shared_metrics.h"

namespace terrace {

/// Why a slab, or an object in one, of an earlier run was not taken back.
enum class NotTaken : uint8_t {
  file,      // a slab: not a memory file of the right size and seals, or it cannot be mapped
  format,    // a slab: its header is damaged, or of another version
  foreign,   // a slab: of another data directory; it is left alone
  geometry,  // a slab: the arena's slabs are of another size now, or fewer
  twice,     // two slabs of one place, or two objects of one name
  tenant,    // objects of two tenants in one slab, or of a namespace that is not there
  empty,     // a slab: it was somebody's and holds nothing any more
  extents,   // an object: its extents lead nowhere, or are another's too
  header,    // an object: its header is damaged or not what the directory says
  stale,     // an object: the durable index knows a younger one, or another one, or a run between
             // did not take it back
  limit,     // an object: objects_max reached
};
inline constexpr size_t kNotTakenReasons = 11;
const char* name_of(NotTaken why);

inline constexpr size_t kStoreDevicesMax = 16;  // of the nvme tier

/// One device of the nvme tier. Its name is written before anybody reads it.
struct NvmeDeviceMetrics {
  std::string path;
  uint16_t place = 0;
  Counter read_bytes, write_bytes, errors, timeouts;
  Counter fences, slow_rests;  // times that it was left alone, for which reason
  Counter capacity_bytes, used_bytes;
  Counter written_per_day;     // bytes, at the rate since the start
  Counter drive_writes_milli;  // a day, at that rate: thousandths of its capacity
  Counter health;              // now: a DeviceHealth
  Counter trimmed_bytes, failed_trims;
};
/// Index of StoreMetrics::misses for a key that never was here, or that is forgotten.
inline constexpr size_t kMissUnknown = kDepartReasons;

struct StoreMetrics {
  // Per tier, index = Tier.
  std::array<Counter, kTierCount> reads, read_bytes, writes, write_bytes, evictions, evicted_bytes;
  std::array<Counter, kTierCount> used_bytes, capacity_bytes, objects;
  std::array<LatencyHistogram, kTierCount> read_latency, write_latency;
  // Every refusal and failure counts in exactly one of these.
  Counter puts_committed, puts_deduplicated, puts_waited;
  Counter puts_refused_space, puts_refused_quota, puts_refused_in_flight, puts_refused_device;
  Counter puts_refused_invalid, puts_abandoned, puts_failed_crc, puts_failed_device;
  Counter crc_failures_hbm, crc_failures_dram, crc_failures_nvme;
  Counter header_failures, quarantined_objects;
  Counter hbm_errors, hbm_unworthy;  // copies that failed; that were not made
  Counter device_errors, device_timeouts, staging_waits;
  std::array<Counter, 2> device_in_flight, device_waiting;  // requests now: reads, writes
  std::array<NvmeDeviceMetrics, kStoreDevicesMax> devices;  // the first device_count
  Counter device_count;
  Counter device_misses;           // lookups of objects whose device is missing or does not answer
  Counter device_missing_objects;  // found at start on devices that were missing
  Counter device_retries;          // objects that one device refused and another one got
  Counter nvme_too_large;          // writes refused: the object fits on no device, however empty
  Counter budget_spent_bytes, budget_refused;    // of a limited write budget of nvme
  Counter budget_left_permille;                  // now, of the most that is saved up
  Counter write_batches, write_batched_objects;  // small objects written to nvme together
  Counter promotions, promotions_abandoned, demotions, erases, evictions_undemoted;
  Counter promotions_unworthy, demotions_unworthy;  // not made: worth less than what would leave
  /// By tier: the value of what leaves next (policy/placement_policy.h), times 1e18; 0: there is
  /// room. Of dram: the highest of all tenants.
  std::array<Counter, kTierCount> price_e18;
  Counter slabs_unowned, slabs_owned, slab_domains;  // now; domains: those that have slabs
  Counter slabs_replaced, slab_moves_given_up, slab_replace_failures;
  Counter scrubbed_bytes, scrub_passes;
  Counter recovered_objects, recovery_dropped_rows, recovery_us;
  // What was learned of uses: objects of which an earlier run told, and its files that told
  // nothing.
  Counter uses_recalled, uses_refused, uses_writes, uses_write_failures;
  // The dram tier of an earlier run: taken back at start, checked before their first use.
  Counter warm_slabs, warm_objects, warm_bytes, warm_us;
  std::array<Counter, kNotTakenReasons> warm_slabs_refused, warm_objects_refused;
  Counter warm_verified_objects, warm_verified_bytes, warm_failed_objects;
  Counter slab_keep_failures;
  Counter bytes_verified;
  /// What left each tier, by DepartReason; and keys that were asked for in vain, by why they are
  /// not there.
  std::array<std::array<Counter, kDepartReasons>, kTierCount> departures;
  std::array<Counter, kDepartReasons + 1> misses;
  /// Of what was evicted: how long it had not been used, as milliseconds instead of microseconds,
  /// and its value times its bytes (seconds of recomputing saved per second), times 1e9.
  std::array<LatencyHistogram, kTierCount> eviction_idle_ms;
  std::array<Counter, kTierCount> evicted_value_e9;
  /// From asking for room until it was there, of those that had to wait.
  std::array<LatencyHistogram, kTierCount> time_to_free;
  SharedMetrics shared;
};
}  // namespace terrace
