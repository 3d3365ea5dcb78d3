// server/node/storage_metrics.h - the tiers' figures under their names. Any thread.
#pragma once
#include "server/node/metric_sink.h"
#include "storage/store_metrics.h"

namespace terrace {

void add_storage(const StoreMetrics& metrics, MetricSink* out);
}  // namespace terrace
