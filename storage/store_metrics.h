// storage/store_metrics.h - what the tiers count. Written by the store's loop, read by any thread.
#pragma once
#include <array>

#include "base/chunk_key.h"
#include "base/counter.h"
#include "storage/shared_metrics.h"

namespace terrace {

struct StoreMetrics {
  // Per tier, index = Tier.
  std::array<Counter, kTierCount> reads, read_bytes, writes, write_bytes, evictions, evicted_bytes;
  std::array<Counter, kTierCount> used_bytes, capacity_bytes, objects;
  std::array<LatencyHistogram, kTierCount> read_latency, write_latency;
  // Every refusal and failure counts in exactly one of these.
  Counter puts_committed, puts_deduplicated, puts_waited;
  Counter puts_refused_space, puts_refused_quota, puts_refused_in_flight, puts_refused_device;
  Counter puts_refused_invalid, puts_abandoned, puts_failed_crc, puts_failed_device;
  Counter crc_failures_dram, crc_failures_nvme, header_failures, quarantined_objects;
  Counter device_errors, device_timeouts, staging_waits;
  std::array<Counter, 2> device_in_flight, device_waiting;  // requests now: reads, writes
  Counter promotions, demotions, erases, evictions_undemoted;
  Counter slabs_unowned, slabs_owned, slab_domains;  // now; domains: those that have slabs
  Counter slabs_replaced, slab_moves_given_up, slab_replace_failures;
  Counter scrubbed_bytes, scrub_passes;
  Counter recovered_objects, recovery_dropped_rows, recovery_us;
  Counter bytes_verified;
  SharedMetrics shared;
};
}  // namespace terrace
