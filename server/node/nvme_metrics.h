// server/node/nvme_metrics.h - the figures of the devices of the nvme tier.
#pragma once
#include "server/node/metric_sink.h"
#include "storage/store_metrics.h"

namespace terrace {
/// Any thread, once the store is open.
void add_nvme_devices(const StoreMetrics& metrics, MetricSink* out);
}  // namespace terrace
