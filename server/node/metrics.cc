#include "server/node/metrics.h"

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/metric_family.h>

#include <exception>

#include "base/version.h"
#include "server/node/metric_sink.h"
#include "server/node/storage_metrics.h"

namespace terrace {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = MetricSink::Labels;

/// Collects families; a metric goes to the family of its name.
class Families final : public MetricSink {
 public:
  void add_counter(const std::string& name, const std::string& help, double value,
                   const Labels& labels) override {
    ClientMetric metric = labelled(labels);
    metric.counter.value = value;
    family(name, help, MetricType::Counter).metric.push_back(std::move(metric));
  }
  void add_gauge(const std::string& name, const std::string& help, double value,
                 const Labels& labels) override {
    ClientMetric metric = labelled(labels);
    metric.gauge.value = value;
    family(name, help, MetricType::Gauge).metric.push_back(std::move(metric));
  }
  void histogram(const std::string& name, const std::string& help, const LatencyHistogram& from,
                 const Labels& labels, double unit_s) override {
    ClientMetric metric = labelled(labels);
    uint64_t count = 0;
    for (size_t i = 0; i < LatencyHistogram::kBuckets; ++i) {
      count += from.buckets[i].get();
      const double bound_s = static_cast<double>(uint64_t{1} << i) * unit_s;
      if (i + 1 < LatencyHistogram::kBuckets) metric.histogram.bucket.push_back({count, bound_s});
    }
    metric.histogram.sample_count = count;
    metric.histogram.sample_sum = static_cast<double>(from.sum_us.get()) * unit_s;
    family(name, help, MetricType::Histogram).metric.push_back(std::move(metric));
  }
  std::vector<MetricFamily> take() { return std::move(families_); }

 private:
  static ClientMetric labelled(const Labels& labels) {
    ClientMetric metric;
    for (const auto& [name, value] : labels) metric.label.push_back({name, value});
    return metric;
  }
  MetricFamily& family(const std::string& name, const std::string& help, MetricType type) {
    for (MetricFamily& f : families_) {
      if (f.name == name) return f;
    }
    families_.push_back({name, help, type, {}});
    return families_.back();
  }
  std::vector<MetricFamily> families_;
};

Labels lane_label(size_t lane) {
  return {{"lane", name_of(static_cast<Lane>(lane))}};
}

void add_pacing(const Pacer::Metrics& m, MetricSink* out) {
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

void add_operations(const NodeCounters& c, MetricSink* out) {
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
                 c.fetch_bytes_by_tier[t], {{"tier", name_of(static_cast<Tier>(t))}});
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

using CounterList = std::vector<std::tuple<const char*, const char*, const Counter*>>;

/// What all transports count, told apart by a label.
void add_transport(const std::string& name, const CounterList& counters, const CounterList& gauges,
                   const std::array<Counter, kCloseReasons>& closes, MetricSink* out) {
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

void add_tcp(const TcpMetrics& m, MetricSink* out) {
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

void add_shm(const ShmMetrics& m, MetricSink* out) {
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

void add_rdma(const RdmaMetrics& m, MetricSink* out) {
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

void add_views(const ViewMetrics& m, MetricSink* out) {
  out->gauge("terrace_server_views", "Objects that clients have in view now.", m.views);
  out->gauge("terrace_server_views_device", "Of these: in device memory.", m.device);
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
    add_storage(context_->store->metrics(), &out);
    add_tcp(*transports_.tcp, &out);
    if (transports_.shm != nullptr) add_shm(*transports_.shm, &out);
    if (transports_.rdma != nullptr) add_rdma(*transports_.rdma, &out);
    if (transports_.views != nullptr) add_views(*transports_.views, &out);
    if (transports_.device_borrowers != nullptr) {
      out.gauge("terrace_server_device_borrowers", "Clients that have device memory open.",
                *transports_.device_borrowers);
    }
    const Nanos up = context_->loop->now() - started_;
    out.add_gauge("terrace_server_uptime_seconds", "Since the start.",
                  static_cast<double>(up.count()) * 1e-9, {});
    out.add_gauge("terrace_server_build_info", "Which build runs.", 1,
                  {{"version", kVersion}, {"node", context_->config->node_id}});
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
