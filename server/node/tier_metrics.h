// server/node/tier_metrics.h - figures of what left the tiers, and of what was asked for in vain.
#pragma once
#include "server/node/metric_sink.h"
#include "storage/store_metrics.h"

namespace terrace {
void add_departures(const StoreMetrics& metrics, MetricSink* out);
}  // namespace terrace
