// storage/shared_metrics.h - what the shared tier counts. Written by the store's loop, read by any
// thread.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "base/counter.h"
#include "storage/s3_metrics.h"

namespace terrace {

/// Why something that was asked of the tier did not come about.
enum class SharedFailure : uint8_t {
  absent = 0,    // it was listed, and is gone: swept or erased by another node
  damaged = 1,   // truncated, flipped, or another object; quarantined
  failed = 2,    // the medium said so (EIO, ...)
  late = 3,      // no answer by the deadline
  fenced = 4,    // the medium hangs: skipped
  busy = 5,      // too many at once
  no_space = 6,  // reads: no room in dram; publishes: the medium is full
  unknown = 7,   // a later build wrote it
};
inline constexpr size_t kSharedFailures = 8;
const char* name_of(SharedFailure failure);

struct SharedMetrics {
  Counter hits;
  std::array<Counter, kSharedFailures> misses, publish_failures;  // by SharedFailure
  Counter publishes, publish_bytes, demotions, evictions_unshared;
  Counter quarantined, quarantine_failures;
  Counter touch_failures;
  Counter timeouts, fences;
  Counter fenced, running, waiting, hanging;  // now
  Counter listings, listing_failures, listings_cut_short;
  Counter sweeper, sweeps, sweep_failures, sweeps_lost;  // the first: this node holds the lease now
  Counter swept_objects, swept_bytes, trash_emptied, leftovers_removed;
  Counter directory_bytes, directory_objects;  // as this node's last sweep found them
  Counter generations_granted, generations_found, generations_late;
  const S3Metrics* requests = nullptr;  // of the medium; null: it is no bucket
};
}  // namespace terrace
