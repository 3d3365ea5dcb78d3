#include "server/node/nvme_metrics.h"

#include "storage/nvme_device.h"

namespace terrace {
namespace {
using Labels = MetricSink::Labels;
constexpr DeviceHealth kHealths[] = {DeviceHealth::ok, DeviceHealth::slow, DeviceHealth::fenced,
                                     DeviceHealth::missing, DeviceHealth::draining};

void add_device(const NvmeDeviceMetrics& m, MetricSink* out) {
  const Labels device = {{"device", std::to_string(m.place)}, {"path", m.path}};
  out->counter("terrace_storage_device_read_bytes_total", "Bytes read from a device of nvme.",
               m.read_bytes, device);
  out->counter("terrace_storage_device_written_bytes_total",
               "Bytes of objects written to a device of nvme.", m.write_bytes, device);
  out->counter("terrace_storage_device_failed_requests_total", "Requests that it failed.", m.errors,
               device);
  out->counter("terrace_storage_device_late_requests_total", "Requests that it did not answer.",
               m.timeouts, device);
  out->counter("terrace_storage_device_fences_total",
               "Times that it failed so often that it was left alone.", m.fences, device);
  out->counter("terrace_storage_device_slow_total",
               "Times that it was many times slower than its peers and got no new objects.",
               m.slow_rests, device);
  out->gauge("terrace_storage_device_capacity_bytes", "What objects can have of it.",
             m.capacity_bytes, device);
  out->gauge("terrace_storage_device_used_bytes", "What objects have of it.", m.used_bytes, device);
  out->gauge("terrace_storage_device_written_bytes_per_day",
             "Written a day, at the rate since the start.", m.written_per_day, device);
  out->add_gauge("terrace_storage_device_drive_writes_per_day",
                 "Of its capacity, written a day, at the rate since the start.",
                 1e-3 * static_cast<double>(m.drive_writes_milli.get()), device);
  out->counter("terrace_storage_device_trimmed_bytes_total",
               "Free space that a block device was told to forget.", m.trimmed_bytes, device);
  out->counter("terrace_storage_device_failed_trims_total",
               "Pieces of free space that it did not forget, or not in time.", m.failed_trims,
               device);
  for (const DeviceHealth health : kHealths) {
    Labels labels = device;
    labels.emplace_back("health", name_of(health));
    const bool now = m.health.get() == static_cast<uint64_t>(health);
    out->add_gauge("terrace_storage_device_health", "1: how it is now.", now ? 1 : 0, labels);
  }
}
}  // namespace

void add_nvme_devices(const StoreMetrics& m, MetricSink* out) {
  for (size_t i = 0; i < m.device_count.get(); ++i) add_device(m.devices[i], out);
  out->counter("terrace_storage_device_misses_total",
               "Lookups of objects whose device is missing or does not answer.", m.device_misses);
  out->counter("terrace_storage_device_retries_total",
               "Objects that one device refused and another one got.", m.device_retries);
  out->counter("terrace_storage_nvme_too_large_total",
               "Writes refused because no device, however empty, could hold the object.",
               m.nvme_too_large);
  out->counter("terrace_storage_nvme_budget_spent_bytes_total",
               "Written while there is a write budget.", m.budget_spent_bytes);
  out->counter("terrace_storage_nvme_budget_refused_total",
               "Objects not written to nvme because the write budget was short.", m.budget_refused);
  out->add_gauge("terrace_storage_nvme_budget_left_ratio",
                 "Of the most that can be saved up; 0: only durable puts are written.",
                 1e-3 * static_cast<double>(m.budget_left_permille.get()), {});
  out->counter("terrace_storage_write_batches_total",
               "Writes of several small objects together to nvme.", m.write_batches);
  out->counter("terrace_storage_write_batched_objects_total", "Objects in them.",
               m.write_batched_objects);
  out->gauge("terrace_storage_device_missing_objects",
             "Objects on devices that were missing at start.", m.device_missing_objects);
}
}  // namespace terrace
