#include "server/node/config.h"

#include <toml++/toml.h>

#include <fstream>
#include <sstream>

#include "server/node/config_option.h"

namespace terrace {
namespace {

Option policy(PolicyKind* target) {
  const auto set = [target](const std::string& value) -> Status {
    TERRACE_ASSIGN_OR_RETURN(*target, policy_kind_of(value));
    return ok_status();
  };
  return {"policy", "who leaves a full tier first: value (what saves the least recomputing) or lru",
          set, [target] { return std::string("\"") + name_of(*target) + '"'; }};
}

std::vector<Option> nvme_options(StoreConfig* s) {
  return {
      number("nvme-bytes", "size of each data file that is new; 0: the size it has",
             &s->nvme_bytes),
      text("data-file",
           "files or block devices of the nvme tier, comma between; empty: one file in the data "
           "directory",
           &s->data_file),
      boolean("format-block-device", "take over block devices that hold nothing of ours",
              &s->format_block_device),
      number("nvme-write-budget-gib-per-day",
             "what all devices together may be written a day; 0: no limit",
             &s->nvme_write_budget_gib_per_day),
      boolean("forget-missing-devices", "give up devices that are not there, and what is on them",
              &s->forget_missing_devices),
  };
}

std::vector<Option> shared_options(StoreConfig* s) {
  return {
      text("shared-directory", "shared tier: a directory that other nodes use too; empty: none",
           &s->shared_directory),
      text("shared-s3", "or on a bucket: http[s]://HOST[:PORT]/BUCKET[/PREFIX]; empty: none",
           &s->shared_s3.url),
      text("shared-s3-region", "what requests are signed for", &s->shared_s3.region),
      boolean("shared-s3-path-style", "false: the bucket is a part of the host name",
              &s->shared_s3.path_style),
      text("shared-s3-credentials-file", "keys, profile [default]; empty: AWS_ACCESS_KEY_ID etc.",
           &s->shared_s3.credentials_file),
      text("shared-s3-ca-file", "who may sign its certificate; empty: whom the system trusts",
           &s->shared_s3.ca_file),
      number("shared-bytes-max", "what all nodes together keep in it", &s->shared_bytes_max),
      number("shared-threads", "calls of its file system at once", &s->shared_threads),
      duration("shared-timeout-ms", "a call that takes longer hangs: the tier is skipped",
               &s->shared_timeout),
      duration("shared-list-period-ms", "how often it is listed anew", &s->shared_list_period),
      duration("shared-sweep-period-ms", "how often one node brings it below its size",
               &s->shared_sweep_period),
      duration("shared-generate-lease-ms",
               "after which a dead node's right to compute is another's",
               &s->shared_generate_lease),
      duration("shared-grace-s", "what was published or removed so short ago is left alone",
               &s->shared_grace),
  };
}

/// What is kept of a namespace, and what is remembered of what was not.
std::vector<Option> keep_options(NodeConfig* c) {
  StoreConfig* const s = &c->store;
  return {
      number("namespaces-per-tenant-max", "that one tenant may make; the node has 65536",
             &c->namespaces_per_tenant_max),
      number("namespace-bytes-max", "quota of each namespace; 0: none", &c->namespace_bytes_max),
      number("namespace-pinned-bytes-max",
             "of its pinned objects; 0: an eighth of the larger of dram and nvme",
             &c->namespace_pinned_bytes_max),
      duration("uses-period-s",
               "how often what was learned of uses is written, for the next start; 0: never",
               &s->uses_period),
      number("departures-bytes", "to remember what left lately and why (terrace explain); 0: none",
             &s->departures_bytes),
  };
}

std::vector<Option> warm_options(NodeConfig* c) {
  return {
      text("warm-restart", "who keeps the dram tier while no node runs: off, keeper, systemd, auto",
           &c->warm_restart),
      text("keeper-socket", "socket of the keeper; empty: KEEPER in the data directory",
           &c->keeper_socket),
      duration("keeper-linger-s", "how long the keeper waits for the next node", &c->keeper_linger),
  };
}

std::vector<Option> options_of(NodeConfig* c) {
  StoreConfig* s = &c->store;
  std::vector<Option> all = {
      text("node-id", "name of this node in logs and metrics", &c->node_id),
      text("listen-host", "address to listen on", &c->listen_host),
      number("control-port", "gRPC port; 0 picks one", &c->control_port),
      number("data-port", "data port; 0 picks one", &c->data_port),
      number("metrics-port", "Prometheus port; 0 picks one", &c->metrics_port),
      boolean("metrics", "serve Prometheus metrics", &c->metrics),
      boolean("rdma", "clients may use RDMA; the node does not start without a port for it",
              &c->rdma),
      boolean("shm", "clients of this host may use shared memory", &c->shm),
      text("shm-socket", "unix socket for them: a path, or @name; empty: a name of its own",
           &c->shm_socket),
      boolean("dev", "accept any client without a token", &c->dev),
      text("log-level", "debug, info, warn, error or off", &c->log_level),
      text("data-directory", "where the nvme tier lives; empty: dram only", &s->data_directory),
      number("dram-bytes", "size of the dram tier", &s->dram_bytes),
      number("slab-bytes", "size of one dram slab, of one tenant; 0: an eighth, 4 to 256MiB",
             &s->slab_bytes),
      boolean("huge-pages", "use huge pages when the machine has them", &s->huge_pages),
      boolean("lock-memory", "lock the dram tier when allowed", &s->lock_memory),
      number("hbm-bytes", "device memory for copies of what is used most; 0: none", &s->hbm_bytes),
      text("hbm-device", "whose memory: cuda:N, or host (for tests)", &c->hbm_device),
      text("hbm-tenant",
           "copies of this tenant's alone, whose engines may read them there; empty: all's",
           &c->hbm_tenant),
      number("staging-bytes", "buffers for reads from nvme", &s->staging_bytes),
      policy(&s->policy),
      number("watermark-permille", "of each tier, kept free", &s->watermark_permille),
      number("promote-hits", "which read from nvme brings an object into dram; 0: none",
             &s->promote_hits),
      boolean("write-through", "memory puts reach nvme in the background", &s->write_through),
      number("puts-in-flight-max", "puts being written at once", &s->puts_in_flight_max),
      number("device-reads-in-flight-max", "reads the device has at once",
             &s->device_reads_in_flight_max),
      number("device-writes-in-flight-max", "writes the device has at once",
             &s->device_writes_in_flight_max),
      duration("device-timeout-ms", "a device that takes longer hangs", &s->device_timeout),
      duration("scrub-period-s", "one pass over everything; 0: none", &s->scrub_period),
      number("scrub-mib-per-s", "the scrubber's share of the device", &s->scrub_mib_per_s),
      number("nvme-trim-interval-hours", "between passes that trim block devices; 0: none",
             &s->nvme_trim_interval_hours),
      boolean("demote-on-close", "memory-only objects go to nvme at shutdown", &s->demote_on_close),
      number("objects-max", "objects in the index", &s->objects_max),
      text("cpus", "CPUs of the data loop, as in 0-3,8; the dram tier lies near them; empty: any",
           &c->cpus),
      duration("poll-us", "how long the data loop looks for work before it sleeps", &c->poll_for),
      number("sessions-max", "clients at once", &c->sessions_max),
      number("operations-in-flight-max", "operations of the node at once",
             &c->operations_in_flight_max),
      number("fetch-window-bytes", "per fetch, between tier and wire", &c->fetch_window_bytes),
      number("wire-window-bytes", "on the way to and from all clients at once; orders lanes",
             &c->wire_window_bytes),
      number("view-bytes-max", "in view of clients over shared memory; 0: a quarter of dram",
             &c->view_bytes_max),
      duration("view-hold-max-ms", "how long a view is safe when another one needs its room",
               &c->view_hold_max),
      duration("view-grace-ms", "how long revoked bytes rest before they are used again",
               &c->view_grace),
      duration("lease-max-ms", "longest lease", &c->lease_max),
      duration("operation-deadline-max-ms", "longest operation", &c->operation_deadline_max),
      duration("drain-timeout-ms", "how long a clean shutdown waits", &c->drain_timeout),
  };
  for (Option& each : nvme_options(s)) all.push_back(std::move(each));
  for (Option& each : keep_options(c)) all.push_back(std::move(each));
  for (Option& each : warm_options(c)) all.push_back(std::move(each));
  for (Option& each : shared_options(s)) all.push_back(std::move(each));
  return all;
}

std::string in_file(std::string name) {
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
}

StatusOr<std::string> text_of(const toml::node& node, const std::string& name) {
  if (const auto* s = node.as_string()) return s->get();
  if (const auto* i = node.as_integer()) return std::to_string(i->get());
  if (const auto* b = node.as_boolean()) return std::string(b->get() ? "true" : "false");
  return error(StatusCode::kInvalidArgument, name + ": a string, a whole number or a boolean");
}

Status apply_tokens(const toml::array& array, NodeConfig* config) {
  for (const toml::node& node : array) {
    const toml::table* table = node.as_table();
    if (table == nullptr) return error(StatusCode::kInvalidArgument, "token: a table was expected");
    TokenConfig token;
    token.tenant = (*table)["tenant"].value_or(std::string());
    token.sha256 = (*table)["sha256"].value_or(std::string());
    token.admin = (*table)["admin"].value_or(false);
    config->tokens.push_back(std::move(token));
  }
  return ok_status();
}

Status apply_tenants(const toml::array& array, NodeConfig* config) {
  for (const toml::node& node : array) {
    const toml::table* table = node.as_table();
    if (table == nullptr)
      return error(StatusCode::kInvalidArgument, "tenant: a table was expected");
    TenantConfig tenant;
    tenant.name = (*table)["name"].value_or(std::string());
    const auto rate = (*table)["bytes_per_s_max"].value<int64_t>();
    if (rate && *rate > 0) tenant.bytes_per_s_max = static_cast<uint64_t>(*rate);
    config->tenants.push_back(std::move(tenant));
  }
  return ok_status();
}

std::string usage(const std::vector<Option>& options) {
  std::ostringstream out;
  out << "terraced - a Terrace storage node\n\n"
         "Usage: terraced [--config FILE] [--OPTION VALUE]...\n\n"
         "Options (in the file with _ for -, flags win):\n";
  for (const Option& o : options) {
    out << "  --" << o.name << std::string(o.name.size() < 28 ? 28 - o.name.size() : 1, ' ')
        << o.what << " [" << o.show() << "]\n";
  }
  out << "\nExamples:\n"
         "  terraced --dev\n"
         "  terraced --dev --data-directory /var/lib/terrace --dram-bytes 4GiB --nvme-bytes 64GiB\n"
         "  terraced --config /etc/terrace/node.toml\n";
  return out.str();
}
}  // namespace

Status apply_toml(const std::string& toml_text, const std::string& source, NodeConfig* config) {
  toml::table parsed;
  try {  // Debian's build of the library has no other way to report an error
    parsed = toml::parse(toml_text, source);
  } catch (const toml::parse_error& failed) {
    return error(StatusCode::kInvalidArgument, source + ":" +
                                                   std::to_string(failed.source().begin.line) +
                                                   ": " + std::string(failed.description()));
  }
  const std::vector<Option> options = options_of(config);
  for (const auto& [key, node] : parsed) {
    const std::string name(key.str());
    if (name == "token" && node.is_array()) {
      TERRACE_RETURN_IF_ERROR(apply_tokens(*node.as_array(), config));
      continue;
    }
    if (name == "tenant" && node.is_array()) {
      TERRACE_RETURN_IF_ERROR(apply_tenants(*node.as_array(), config));
      continue;
    }
    const auto found = std::find_if(options.begin(), options.end(),
                                    [&](const Option& o) { return in_file(o.name) == name; });
    if (found == options.end()) {
      return error(StatusCode::kInvalidArgument, source + ": unknown option " + name);
    }
    TERRACE_ASSIGN_OR_RETURN(const std::string value, text_of(node, name));
    TERRACE_RETURN_IF_ERROR(found->set(value));
  }
  return ok_status();
}

std::string to_toml(const NodeConfig& config) {
  NodeConfig copy = config;
  std::string out;
  for (const Option& o : options_of(&copy)) out += in_file(o.name) + " = " + o.show() + "\n";
  for (const TenantConfig& tenant : config.tenants) {
    out += "[[tenant]]\nname = \"" + tenant.name +
           "\"\nbytes_per_s_max = " + std::to_string(tenant.bytes_per_s_max) + "\n";
  }
  return out;
}

StatusOr<NodeConfig> parse_command_line(int argc, const char* const* argv, std::string* help) {
  NodeConfig config;
  std::vector<Option> options = options_of(&config);
  std::vector<std::pair<std::string, std::string>> given;
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    if (word == "--help" || word == "-h") {
      *help = usage(options);
      return config;
    }
    if (!word.starts_with("--")) {
      return error(StatusCode::kInvalidArgument, "\"" + word + "\": flags begin with --");
    }
    word = word.substr(2);
    const size_t equals = word.find('=');
    std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
    word = word.substr(0, equals);
    const auto found = std::find_if(options.begin(), options.end(),
                                    [&](const Option& o) { return o.name == word; });
    if (found == options.end() && word != "config") {
      return error(StatusCode::kInvalidArgument, "--" + word + ": unknown; see --help");
    }
    const bool has_next = i + 1 < argc && !std::string(argv[i + 1]).starts_with("--");
    if (equals == std::string::npos) {
      if (has_next) {
        value = argv[++i];
      } else if (found != options.end() && found->flag) {
        value = "true";
      } else {
        return error(StatusCode::kInvalidArgument, "--" + word + " needs a value");
      }
    }
    if (word == "config") {
      std::ifstream file(value);
      if (!file) return error(StatusCode::kNotFound, "--config " + value + ": cannot be read");
      std::ostringstream content;
      content << file.rdbuf();
      TERRACE_RETURN_IF_ERROR(apply_toml(content.str(), value, &config));
    } else {
      given.emplace_back(word, value);
    }
  }
  for (const auto& [name, value] : given) {
    for (const Option& o : options) {
      if (o.name == name) TERRACE_RETURN_IF_ERROR(o.set(value));
    }
  }
  TERRACE_RETURN_IF_ERROR(config.validate());
  return config;
}
}  // namespace terrace
