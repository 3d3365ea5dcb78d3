#include "server/node/tier_metrics.h"

#include <string>

namespace terrace {

void add_departures(const StoreMetrics& m, MetricSink* out) {
  for (Tier tier : {Tier::dram, Tier::nvme, Tier::shared}) {
    const auto t = static_cast<size_t>(tier);
    const std::string name = name_of(tier);
    for (size_t why = 0; why < kDepartReasons; ++why) {
      out->counter("terrace_storage_departures_total", "Copies that left a tier, by reason.",
                   m.departures[t][why],
                   {{"tier", name}, {"reason", name_of(static_cast<DepartReason>(why))}});
    }
    if (tier == Tier::shared) continue;  // its sweeper evicts, without values
    const MetricSink::Labels label = {{"tier", name}};
    out->histogram("terrace_storage_eviction_idle_seconds",
                   "How long what was evicted had not been used.", m.eviction_idle_ms[t], label,
                   1e-3);
    out->add_counter("terrace_storage_evicted_value_total",
                     "Seconds of recomputing per second that what was evicted was expected to save "
                     "(policy lru: no unit).",
                     1e-9 * static_cast<double>(m.evicted_value_e9[t].get()), label);
    out->histogram("terrace_storage_time_to_free_seconds",
                   "From asking for room until it was there, of what had to wait.",
                   m.time_to_free[t], label);
  }
  for (size_t why = 0; why <= kDepartReasons; ++why) {
    out->counter(
        "terrace_storage_key_misses_total",
        "Keys asked for in vain, by why they are not there (unknown: never here, or forgotten).",
        m.misses[why],
        {{"reason", why == kMissUnknown ? "unknown" : name_of(static_cast<DepartReason>(why))}});
  }
}
}  // namespace terrace
