#include "server/node/storage_metrics.h"

#include <tuple>

#include "server/node/nvme_metrics.h"
#include "server/node/tier_metrics.h"

namespace terrace {
namespace {

using Labels = MetricSink::Labels;

Labels tier_label(size_t tier) {
  return {{"tier", name_of(static_cast<Tier>(tier))}};
}

void add_tiers(const StoreMetrics& m, MetricSink* out) {
  for (Tier tier : {Tier::hbm, Tier::dram, Tier::nvme, Tier::shared}) {
    const auto t = static_cast<size_t>(tier);
    const Labels label = tier_label(t);
    out->counter("terrace_storage_reads_total", "Reads.", m.reads[t], label);
    out->counter("terrace_storage_read_bytes_total", "Bytes read.", m.read_bytes[t], label);
    out->counter("terrace_storage_writes_total", "Writes.", m.writes[t], label);
    out->counter("terrace_storage_write_bytes_total", "Bytes written.", m.write_bytes[t], label);
    out->counter("terrace_storage_evictions_total", "Objects evicted.", m.evictions[t], label);
    out->counter("terrace_storage_evicted_bytes_total", "Bytes evicted.", m.evicted_bytes[t],
                 label);
    out->gauge("terrace_storage_used_bytes", "Bytes in use.", m.used_bytes[t], label);
    out->gauge("terrace_storage_capacity_bytes", "Size of the tier.", m.capacity_bytes[t], label);
    out->gauge("terrace_storage_objects", "Objects.", m.objects[t], label);
    out->add_gauge("terrace_storage_price",
                   "Value of what leaves next: seconds of recomputing saved per byte and second "
                   "(policy lru: no unit); 0 while there is room.",
                   1e-18 * static_cast<double>(m.price_e18[t].get()), label);
    out->histogram("terrace_storage_read_latency_seconds", "One read.", m.read_latency[t], label);
    out->histogram("terrace_storage_write_latency_seconds", "One write.", m.write_latency[t],
                   label);
  }
}

void add_slabs(const StoreMetrics& m, MetricSink* out) {
  out->gauge("terrace_storage_slabs", "Slabs of the dram tier, by state.", m.slabs_unowned,
             {{"state", "unowned"}});
  out->gauge("terrace_storage_slabs", "Slabs of the dram tier, by state.", m.slabs_owned,
             {{"state", "owned"}});
  out->gauge("terrace_storage_slab_domains", "Tenants that have slabs.", m.slab_domains);
  out->counter("terrace_storage_slabs_replaced_total",
               "Slabs that went to another tenant, with new memory.", m.slabs_replaced);
  out->counter("terrace_storage_slab_moves_given_up_total",
               "Slabs that should have gone, but their objects stayed in use.",
               m.slab_moves_given_up);
  out->counter("terrace_storage_slab_replace_failures_total",
               "Attempts to replace a slab's memory for which the machine had none.",
               m.slab_replace_failures);
}

/// The dram tier of the run before: what came back, what did not, and how it was found to be.
void add_warm(const StoreMetrics& m, MetricSink* out) {
  out->gauge("terrace_storage_warm_slabs", "Slabs taken back at start.", m.warm_slabs);
  out->gauge("terrace_storage_warm_objects", "Objects taken back at start.", m.warm_objects);
  out->gauge("terrace_storage_warm_bytes", "Bytes taken back at start.", m.warm_bytes);
  for (size_t why = 0; why < kNotTakenReasons; ++why) {
    const Labels reason = {{"reason", name_of(static_cast<NotTaken>(why))}};
    out->gauge("terrace_storage_warm_slabs_refused", "Slabs not taken back, by reason.",
               m.warm_slabs_refused[why], reason);
    out->gauge("terrace_storage_warm_objects_refused", "Objects not taken back, by reason.",
               m.warm_objects_refused[why], reason);
  }
  const char* const checked = "Objects that were taken back and checked since, by result.";
  out->counter("terrace_storage_warm_checks_total", checked, m.warm_verified_objects,
               {{"result", "good"}});
  out->counter("terrace_storage_warm_checks_total", checked, m.warm_failed_objects,
               {{"result", "bad"}});
  out->counter("terrace_storage_warm_checked_bytes_total", "Bytes of the good ones.",
               m.warm_verified_bytes);
  out->gauge("terrace_storage_slab_keep_failures",
             "Slabs that no keeper has: a restart finds them empty.", m.slab_keep_failures);
  out->add_gauge("terrace_storage_warm_seconds", "Time that taking back took.",
                 static_cast<double>(m.warm_us.get()) * 1e-6, {});
}

void add_store(const StoreMetrics& m, MetricSink* out) {
  const std::vector<std::pair<const char*, const Counter*>> refusals = {
      {"space", &m.puts_refused_space},
      {"quota", &m.puts_refused_quota},
      {"in_flight", &m.puts_refused_in_flight},
      {"device", &m.puts_refused_device},
      {"invalid", &m.puts_refused_invalid},
      {"abandoned", &m.puts_abandoned},
      {"crc", &m.puts_failed_crc},
      {"device_failed", &m.puts_failed_device}};
  for (const auto& [reason, count] : refusals) {
    out->counter("terrace_storage_puts_refused_total", "Puts not stored, by reason.", *count,
                 {{"reason", reason}});
  }
  const std::vector<std::tuple<const char*, const char*, const Counter*>> counters = {
      {"puts_committed", "Puts that became visible.", &m.puts_committed},
      {"puts_deduplicated", "Puts of objects that were there.", &m.puts_deduplicated},
      {"header_failures", "Object headers that failed their check.", &m.header_failures},
      {"quarantined_objects", "Objects taken out for a failed check.", &m.quarantined_objects},
      {"device_errors", "I/O errors.", &m.device_errors},
      {"device_timeouts", "I/Os later than the device timeout.", &m.device_timeouts},
      {"staging_waits", "Reads that waited for a buffer.", &m.staging_waits},
      {"promotions", "Objects copied to dram.", &m.promotions},
      {"promotions_abandoned", "Copies to dram whose reader did not read all of the object.",
       &m.promotions_abandoned},
      {"evictions_undemoted", "Of the evictions from dram: nvme had not got them yet.",
       &m.evictions_undemoted},
      {"demotions", "Objects written to nvme before they left dram.", &m.demotions},
      {"promotions_unworthy", "Not copied to dram: worth less than what would have to leave.",
       &m.promotions_unworthy},
      {"demotions_unworthy", "Not written to nvme: worth less than what would have to leave.",
       &m.demotions_unworthy},
      {"hbm_errors", "Copies to or from device memory that failed or hung.", &m.hbm_errors},
      {"hbm_unworthy", "Not copied to hbm: worth less than what would have to leave.",
       &m.hbm_unworthy},
      {"erases", "Objects erased on request.", &m.erases},
      {"scrubbed_bytes", "Bytes the scrubber verified.", &m.scrubbed_bytes},
      {"scrub_passes", "Passes of the scrubber.", &m.scrub_passes},
      {"recovery_dropped_rows", "Index rows that recovery had to drop.", &m.recovery_dropped_rows},
      {"uses_writes", "Times that what was learned of uses was written.", &m.uses_writes},
      {"uses_write_failures", "Times that it could not be written.", &m.uses_write_failures},
      {"uses_refused", "Files of it that were not read at start: damaged, or of another build.",
       &m.uses_refused},
      {"bytes_verified", "Bytes checked against their CRC.", &m.bytes_verified},
  };
  for (const auto& [name, help, count] : counters) {
    out->counter(std::string("terrace_storage_") + name + "_total", help, *count);
  }
  for (size_t kind = 0; kind < m.device_waiting.size(); ++kind) {
    const char* const name = kind == 0 ? "read" : "write";
    out->gauge("terrace_storage_device_requests", "Requests of the device now (queue depth).",
               m.device_in_flight[kind], {{"kind", name}, {"state", "in_flight"}});
    out->gauge("terrace_storage_device_requests", "Requests of the device now (queue depth).",
               m.device_waiting[kind], {{"kind", name}, {"state", "waiting"}});
  }
  out->counter("terrace_storage_crc_failures_total", "Units that failed their CRC.",
               m.crc_failures_hbm, tier_label(static_cast<size_t>(Tier::hbm)));
  out->counter("terrace_storage_crc_failures_total", "Units that failed their CRC.",
               m.crc_failures_dram, tier_label(static_cast<size_t>(Tier::dram)));
  out->counter("terrace_storage_crc_failures_total", "Units that failed their CRC.",
               m.crc_failures_nvme, tier_label(static_cast<size_t>(Tier::nvme)));
  out->gauge("terrace_storage_recovered_objects", "Objects found at start.", m.recovered_objects);
  out->gauge("terrace_storage_uses_recalled_objects", "Objects whose uses were known at start.",
             m.uses_recalled);
  out->add_gauge("terrace_storage_recovery_seconds", "Time that recovery took.",
                 static_cast<double>(m.recovery_us.get()) * 1e-6, {});
}

void add_shared(const SharedMetrics& m, MetricSink* out) {
  for (size_t i = 0; i < kSharedFailures; ++i) {
    const Labels reason = {{"reason", name_of(static_cast<SharedFailure>(i))}};
    out->counter("terrace_storage_shared_misses_total", "Loads that did not come, by reason.",
                 m.misses[i], reason);
    out->counter("terrace_storage_shared_publish_failures_total", "Not published, by reason.",
                 m.publish_failures[i], reason);
  }
  const std::vector<std::tuple<const char*, const char*, const Counter*>> counters = {
      {"hits", "Objects read from it and verified.", &m.hits},
      {"publishes", "Objects published by this node.", &m.publishes},
      {"publish_bytes", "Bytes of them.", &m.publish_bytes},
      {"demotions", "Of these: before eviction took them.", &m.demotions},
      {"evictions_unshared", "Objects dropped that were not published.", &m.evictions_unshared},
      {"quarantined", "Damaged copies set aside.", &m.quarantined},
      {"sweeps", "Passes of this node as the tier's sweeper.", &m.sweeps},
      {"sweep_failures", "Passes that failed.", &m.sweep_failures},
      {"swept_objects", "Objects swept to keep it below its size.", &m.swept_objects},
      {"swept_bytes", "Bytes of them.", &m.swept_bytes},
      {"timeouts", "Calls that did not end in time.", &m.timeouts},
      {"touch_failures", "Copies used that could not be marked as such.", &m.touch_failures},
      {"fences", "Times that it hung and was skipped.", &m.fences},
      {"listings", "Namespaces listed.", &m.listings},
      {"listing_failures", "Listings that failed.", &m.listing_failures}};
  for (const auto& [name, help, count] : counters) {
    out->counter(std::string("terrace_storage_shared_") + name + "_total", help, *count);
  }
  out->gauge("terrace_storage_shared_fenced", "1: it hangs and is skipped.", m.fenced);
  out->gauge("terrace_storage_shared_sweeper", "1: this node is its sweeper.", m.sweeper);
  out->gauge("terrace_storage_shared_directory_bytes", "All of it, as this node's last pass found.",
             m.directory_bytes);
  out->gauge("terrace_storage_shared_hanging_calls", "Calls that hold a thread too long.",
             m.hanging);
}

void add_requests(const S3Metrics& m, MetricSink* out) {
  const auto number = [](const S3Metrics::Number& value) {
    return static_cast<double>(value.load(std::memory_order_relaxed));
  };
  for (size_t kind = 0; kind < kS3Kinds; ++kind) {
    for (size_t outcome = 0; outcome < kS3Outcomes; ++outcome) {
      out->add_counter("terrace_storage_s3_requests_total",
                       "Requests to the bucket, each attempt, by how it ended.",
                       number(m.attempts[kind][outcome]),
                       {{"kind", name_of(static_cast<S3Kind>(kind))},
                        {"outcome", name_of(static_cast<S3Outcome>(outcome))}});
    }
  }
  out->add_counter("terrace_storage_s3_retries_total", "Of these: not the first attempt.",
                   number(m.retries), {});
  out->add_counter("terrace_storage_s3_sent_bytes_total", "Bodies that went out.",
                   number(m.sent_bytes), {});
  out->add_counter("terrace_storage_s3_received_bytes_total", "Bodies that came in.",
                   number(m.received_bytes), {});
}
}  // namespace

void add_storage(const StoreMetrics& metrics, MetricSink* out) {
  add_tiers(metrics, out);
  add_slabs(metrics, out);
  add_warm(metrics, out);
  add_store(metrics, out);
  add_nvme_devices(metrics, out);
  add_shared(metrics.shared, out);
  if (metrics.shared.requests != nullptr) add_requests(*metrics.shared.requests, out);
  add_departures(metrics, out);
}
}  // namespace terrace
