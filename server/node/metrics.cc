#include "server/node/metrics.h"

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/metric_family.h>

#include <exception>

#include "base/version.h"

namespace terrace {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

/// Collects families; a metric goes to the family of its name.
class Families {
 public:
  void add(const std::string& name, const std::string& help, MetricType type, Labels labels,
           double value) {
    ClientMetric metric;
    metric.label = std::move(labels);
    if (type == MetricType::Counter) metric.counter.value = value;
    if (type == MetricType::Gauge) metric.gauge.value = value;
    family(name, help, type).metric.push_back(std::move(metric));
  }
  void counter(const std::string& name, const std::string& help, const Counter& value,
               Labels labels = {}) {
    add(name, help, MetricType::Counter, std::move(labels), static_cast<double>(value.get()));
  }
  void gauge(const std::string& name, const std::string& help, const Counter& value,
             Labels labels = {}) {
    add(name, help, MetricType::Gauge, std::move(labels), static_cast<double>(value.get()));
  }
  void histogram(const std::string& name, const std::string& help, const LatencyHistogram& from,
                 Labels labels) {
    ClientMetric metric;
    metric.label = std::move(labels);
    uint64_t count = 0;
    for (size_t i = 0; i < LatencyHistogram::kBuckets; ++i) {
      count += from.buckets[i].get();
      const double bound_s = static_cast<double>(uint64_t{1} << i) * 1e-6;
      if (i + 1 < LatencyHistogram::kBuckets) metric.histogram.bucket.push_back({count, bound_s});
    }
    metric.histogram.sample_count = count;
    metric.histogram.sample_sum = static_cast<double>(from.sum_us.get()) * 1e-6;
    family(name, help, MetricType::Histogram).metric.push_back(std::move(metric));
  }
  std::vector<MetricFamily> take() { return std::move(families_); }

 private:
  MetricFamily& family(const std::string& name, const std::string& help, MetricType type) {
    for (MetricFamily& f : families_) {
      if (f.name == name) return f;
    }
    families_.push_back({name, help, type, {}});
    return families_.back();
  }
  std::vector<MetricFamily> families_;
};

Labels tier_label(size_t tier) {
  return {{"tier", name_of(static_cast<Tier>(tier))}};
}

Labels lane_label(size_t lane) {
  return {{"lane", name_of(static_cast<Lane>(lane))}};
}

void add_pacing(const Pacer::Metrics& m, Families* out) {
  for (size_t l = 0; l < kLanes; ++l) {
    out->counter("terrace_server_paced_bytes_total", "Bytes let onto the wire, by lane.",
                 m.granted_bytes[l], lane_label(l));
    out->gauge("terrace_server_paced_waiting", "Operations that wait for the wire now.",
               m.waiting[l], lane_label(l));
  }
  out->gauge("terrace_server_wire_in_flight_bytes", "Bytes on their way now.", m.in_flight_bytes);
  out->gauge("terrace_server_slow_peers", "Clients that take or give bytes too slowly to wait for.",
             m.slow_peers);
}

void add_operations(const NodeCounters& c, Families* out) {
  for (size_t k = 0; k < kOpKinds; ++k) {
    const std::string op = name_of(static_cast<OpKind>(k));
    for (size_t code = 0; code < NodeCounters::kCodes; ++code) {
      if (code != 0 && c.ops[k].by_code[code].get() == 0) continue;
      out->counter("terrace_server_operations_total", "Operations answered, by kind and result.",
                   c.ops[k].by_code[code],
                   {{"op", op}, {"code", name_of(static_cast<StatusCode>(code))}});
    }
    out->histogram("terrace_server_operation_latency_seconds",
                   "From the request's arrival to its answer.", c.ops[k].latency, {{"op", op}});
  }
  for (size_t code = 0; code < NodeCounters::kCodes; ++code) {
    if (code == 0) {
      out->counter("terrace_server_fetch_hits_total", "Keys fetched whole.",
                   c.fetch_keys_by_code[code]);
    } else if (c.fetch_keys_by_code[code].get() > 0 || code == 5) {
      out->counter("terrace_server_fetch_misses_total", "Keys not fetched, by reason.",
                   c.fetch_keys_by_code[code],
                   {{"reason", name_of(static_cast<StatusCode>(code))}});
    }
  }
  out->counter("terrace_server_lookup_keys_total", "Keys looked up.", c.keys_looked_up);
  out->counter("terrace_server_lookup_keys_found_total", "Keys looked up and there.", c.keys_found);
  for (size_t t = 0; t < kTierCount; ++t) {
    out->counter("terrace_server_fetch_bytes_total", "Bytes sent to clients, by tier.",
                 c.fetch_bytes_by_tier[t], tier_label(t));
  }
  out->counter("terrace_server_put_bytes_total", "Bytes received and verified.", c.put_bytes);
  out->counter("terrace_server_leases_granted_total", "Leases given by lookups.", c.leases_granted);
  out->gauge("terrace_server_sessions", "Clients now.", c.sessions);
  out->counter("terrace_server_sessions_opened_total", "Clients since the start.",
               c.sessions_opened);
  out->counter("terrace_server_sessions_refused_total", "Clients over sessions_max.",
               c.sessions_refused);
  out->gauge("terrace_server_operations_in_flight", "Operations now (queue depth).",
             c.operations_in_flight);
  for (size_t l = 0; l < kLanes; ++l) {
    out->counter("terrace_server_overload_refusals_total", "Operations refused for overload.",
                 c.overload_refusals[l], lane_label(l));
  }
  out->counter("terrace_server_protocol_errors_total", "Connections closed for bad requests.",
               c.protocol_errors);
}

void add_tiers(const StoreMetrics& m, Families* out) {
  for (Tier tier : {Tier::dram, Tier::nvme, Tier::shared}) {
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
    out->histogram("terrace_storage_read_latency_seconds", "One read.", m.read_latency[t], label);
    out->histogram("terrace_storage_write_latency_seconds", "One write.", m.write_latency[t],
                   label);
  }
}

void add_slabs(const StoreMetrics& m, Families* out) {
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

void add_store(const StoreMetrics& m, Families* out) {
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
      {"evictions_undemoted", "Of the evictions from dram: nvme had not got them yet.",
       &m.evictions_undemoted},
      {"demotions", "Objects written to nvme before they left dram.", &m.demotions},
      {"erases", "Objects erased on request.", &m.erases},
      {"scrubbed_bytes", "Bytes the scrubber verified.", &m.scrubbed_bytes},
      {"scrub_passes", "Passes of the scrubber.", &m.scrub_passes},
      {"recovery_dropped_rows", "Index rows that recovery had to drop.", &m.recovery_dropped_rows},
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
               m.crc_failures_dram, tier_label(static_cast<size_t>(Tier::dram)));
  out->counter("terrace_storage_crc_failures_total", "Units that failed their CRC.",
               m.crc_failures_nvme, tier_label(static_cast<size_t>(Tier::nvme)));
  out->gauge("terrace_storage_recovered_objects", "Objects found at start.", m.recovered_objects);
  out->add("terrace_storage_recovery_seconds", "Time that recovery took.", MetricType::Gauge, {},
           static_cast<double>(m.recovery_us.get()) * 1e-6);
}

void add_shared(const SharedMetrics& m, Families* out) {
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

using CounterList = std::vector<std::tuple<const char*, const char*, const Counter*>>;

/// What all transports count, told apart by a label.
void add_transport(const std::string& name, const CounterList& counters, const CounterList& gauges,
                   const std::array<Counter, kCloseReasons>& closes, Families* out) {
  for (const auto& [what, help, count] : counters) {
    out->counter(std::string("terrace_transport_") + what + "_total", help, *count,
                 {{"transport", name}});
  }
  for (const auto& [what, help, value] : gauges) {
    out->gauge(std::string("terrace_transport_") + what, help, *value, {{"transport", name}});
  }
  static constexpr const char* kReasons[kCloseReasons] = {
      "asked", "peer_closed", "bad_frame", "stalled", "handshake", "secret", "full"};
  for (size_t i = 0; i < kCloseReasons; ++i) {
    out->counter("terrace_transport_closes_total", "Peers and strangers that went, by reason.",
                 closes[i], {{"transport", name}, {"reason", kReasons[i]}});
  }
}

void add_tcp(const TcpMetrics& m, Families* out) {
  add_transport(
      "tcp",
      {{"received_bytes", "Bytes received.", &m.bytes_in},
       {"sent_bytes", "Bytes sent.", &m.bytes_out},
       {"received_messages", "Messages received.", &m.messages_in},
       {"sent_messages", "Messages sent.", &m.messages_out},
       {"accepted_connections", "Connections since the start.", &m.accepted},
       {"zero_copy_sends", "Sends that asked the kernel not to copy.", &m.zero_copy_sends},
       {"zero_copy_fallbacks", "Connections on which it copied all the same.",
        &m.zero_copy_fallbacks}},
      {{"queued_bytes", "Bytes accepted and not yet sent.", &m.queued_bytes},
       {"connections", "Connections now.", &m.connections},
       {"peers", "Clients connected now.", &m.peers}},
      m.closes, out);
}

void add_shm(const ShmMetrics& m, Families* out) {
  add_transport(
      "shm",
      {{"received_bytes", "Bytes received.", &m.bytes_in},
       {"sent_bytes", "Bytes sent.", &m.bytes_out},
       {"received_messages", "Messages received.", &m.messages_in},
       {"sent_messages", "Messages sent.", &m.messages_out},
       {"accepted_connections", "Connections since the start.", &m.accepted},
       {"bounced_bytes", "Of the bytes sent: copied for the client first.", &m.bytes_bounced},
       {"files_lent", "Slabs that clients were given to map.", &m.files_shared}},
      {{"peers", "Clients connected now.", &m.peers},
       {"area_bytes", "Memory that sessions share with their clients.", &m.area_bytes}},
      m.closes, out);
}

void add_rdma(const RdmaMetrics& m, Families* out) {
  add_transport(
      "rdma",
      {{"received_bytes", "Bytes received.", &m.bytes_in},
       {"sent_bytes", "Bytes sent.", &m.bytes_out},
       {"received_messages", "Messages received.", &m.messages_in},
       {"sent_messages", "Messages sent.", &m.messages_out},
       {"bounced_bytes", "Of the bytes: copied, because their memory is not registered.",
        &m.bounced_bytes},
       {"grants", "Grants given to clients.", &m.grants},
       {"path_failures", "Paths that died.", &m.path_failures},
       {"lane_resets", "Queue pairs replaced while their path lived.", &m.lane_resets},
       {"registration_failures", "Memory that the card did not take.", &m.registration_failures}},
      {{"queued_bytes", "Bytes accepted and not yet sent.", &m.queued_bytes},
       {"peers", "Clients connected now.", &m.peers},
       {"paths", "Paths that work now, of all clients.", &m.paths_up},
       {"registered_bytes", "Memory registered with all cards.", &m.registered_bytes},
       {"registrations_flying", "Slabs and regions that the cards still learn; bounced meanwhile.",
        &m.registrations_flying}},
      m.closes, out);
}

void add_views(const ViewMetrics& m, Families* out) {
  out->gauge("terrace_server_views", "Objects that clients have in view now.", m.views);
  out->gauge("terrace_server_view_bytes", "Bytes pinned for views now.", m.bytes);
  out->counter("terrace_server_views_granted_total", "Views since the start.", m.granted);
  out->counter("terrace_server_views_refused_total", "Views over the quota.", m.refused);
  out->counter("terrace_server_views_revoked_total", "Views taken back for others.", m.revoked);
}

class Collector final : public prometheus::Collectable {
 public:
  Collector(const NodeContext* context, const TransportMetrics& transports)
      : context_(context), transports_(transports), started_(context->loop->now()) {}
  std::vector<MetricFamily> Collect() const override {
    Families out;
    add_operations(*context_->counters, &out);
    add_pacing(context_->pacer->metrics(), &out);
    add_tiers(context_->store->metrics(), &out);
    add_slabs(context_->store->metrics(), &out);
    add_store(context_->store->metrics(), &out);
    add_shared(context_->store->metrics().shared, &out);
    add_tcp(*transports_.tcp, &out);
    if (transports_.shm != nullptr) add_shm(*transports_.shm, &out);
    if (transports_.rdma != nullptr) add_rdma(*transports_.rdma, &out);
    if (transports_.views != nullptr) add_views(*transports_.views, &out);
    const Nanos up = context_->loop->now() - started_;
    out.add("terrace_server_uptime_seconds", "Since the start.", MetricType::Gauge, {},
            static_cast<double>(up.count()) * 1e-9);
    out.add("terrace_server_build_info", "Which build runs.", MetricType::Gauge,
            {{"version", kVersion}, {"node", context_->config->node_id}}, 1);
    return out.take();
  }

 private:
  const NodeContext* const context_;
  const TransportMetrics transports_;
  const Nanos started_;
};
}  // namespace

class MetricsServer::Core {
 public:
  Core(const NodeContext* context, const TransportMetrics& transports, const std::string& address)
      : collector_(std::make_shared<Collector>(context, transports)), exposer_(address, 1) {
    exposer_.RegisterCollectable(collector_);
  }
  uint16_t port() const { return static_cast<uint16_t>(exposer_.GetListeningPorts().at(0)); }

 private:
  std::shared_ptr<Collector> collector_;
  prometheus::Exposer exposer_;
};

StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::start(const NodeContext* context,
                                                              const TransportMetrics& transports) {
  const std::string address =
      context->config->listen_host + ":" + std::to_string(context->config->metrics_port);
  try {  // the library reports a taken port by throwing
    return std::unique_ptr<MetricsServer>(
        new MetricsServer(std::make_unique<Core>(context, transports, address)));
  } catch (const std::exception& failed) {
    return error(StatusCode::kUnavailable,
                 "metrics cannot listen on " + address + ": " + failed.what());
  }
}
MetricsServer::MetricsServer(std::unique_ptr<Core> core) : core_(std::move(core)) {}
MetricsServer::~MetricsServer() = default;
uint16_t MetricsServer::port() const {
  return core_->port();
}
}  // namespace terrace
