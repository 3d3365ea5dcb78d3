// What a node's configuration must be.
#include "base/cpu.h"
#include "server/node/config.h"
#include "server/node/config_option.h"
#include "server/node/open_accelerator.h"

namespace terrace {
namespace {

Status validate_warm_restart(const NodeConfig& config) {
  const std::string& who = config.warm_restart;
  if (who != "off" && who != "keeper" && who != "systemd" && who != "auto") {
    return bad_value("warm-restart", who, "off, keeper, systemd or auto");
  }
  if (who != "off" && config.store.data_directory.empty()) {
    return bad_value("warm-restart", who,
                     "needs --data-directory: namespaces and the index are there");
  }
  if (config.keeper_linger.count() < 1 || config.keeper_linger > std::chrono::days(7)) {
    return bad_value("keeper-linger-s", std::to_string(config.keeper_linger.count()),
                     "1 to 604800");
  }
  return ok_status();
}
}  // namespace

Status NodeConfig::validate() const {
  const auto bad = [](const std::string& what) {
    return error(StatusCode::kInvalidArgument, what);
  };
  if (node_id.empty()) return bad("node-id is empty");
  if (!dev && tokens.empty()) {
    return bad("no tokens configured: add [[token]] tables to the config file, or --dev");
  }
  for (const TokenConfig& token : tokens) {
    if (token.tenant.empty() || token.sha256.size() != 64) {
      return bad("token of tenant \"" + token.tenant +
                 "\": needs a tenant and the 64 hex digits of the token's sha256");
    }
  }
  for (const TenantConfig& tenant : tenants) {
    if (tenant.name.empty() || tenant.bytes_per_s_max < kMiB) {
      return bad("tenant \"" + tenant.name +
                 "\": needs a name and a bytes_per_s_max of at least 1048576");
    }
  }
  if (wire_window_bytes < 2 * kMiB || wire_window_bytes > kGiB) {
    return bad("wire-window-bytes=" + std::to_string(wire_window_bytes) + ": 2MiB to 1GiB");
  }
  if (const auto parsed = parse_cpu_list(cpus); !parsed.ok()) {
    return bad("cpus: " + parsed.status().message());
  }
  if (poll_for > kPollLongest) {
    return bad("poll-us=" + std::to_string(poll_for.count()) + ": at most " +
               std::to_string(kPollLongest.count()));
  }
  if (sessions_max == 0) return bad("sessions-max=0: at least 1");
  if (operations_in_flight_max == 0) return bad("operations-in-flight-max=0: at least 1");
  if (namespaces_per_tenant_max == 0 || namespaces_per_tenant_max > kNamespacesMax) {
    return bad("namespaces-per-tenant-max=" + std::to_string(namespaces_per_tenant_max) +
               ": 1 to " + std::to_string(kNamespacesMax));
  }
  if (fetch_window_bytes < kMiB || fetch_window_bytes > kGiB) {
    return bad("fetch-window-bytes=" + std::to_string(fetch_window_bytes) + ": 1MiB to 1GiB");
  }
  TERRACE_RETURN_IF_ERROR(check_accelerator_name(hbm_device));
  if (!hbm_tenant.empty() && store.hbm_bytes == 0) {
    return bad("hbm-tenant=\"" + hbm_tenant + "\" without hbm-bytes: there is no hbm tier");
  }
  if (!hbm_tenant.empty() && !shm) {
    return bad("hbm-tenant=\"" + hbm_tenant + "\" without shm: nobody could read there");
  }
  TERRACE_RETURN_IF_ERROR(validate_warm_restart(*this));
  return store.validate();
}
}  // namespace terrace
