#include <algorithm>
#include <string>

#include "base/cpu.h"
#include "base/limits.h"
#include "client/terrace.h"

namespace terrace {
namespace {

Status bad(const std::string& what) {
  return error(StatusCode::kInvalidArgument, "client config: " + what);
}

bool has_port(const std::string& endpoint) {
  const size_t colon = endpoint.rfind(':');
  if (colon == std::string::npos || colon == 0) return false;
  const std::string port = endpoint.substr(colon + 1);
  if (port.empty() || port.size() > 5) return false;
  if (port.find_first_not_of("0123456789") != std::string::npos) return false;
  const int number = std::stoi(port);
  return number >= 1 && number <= 65535;
}

Status check_endpoints(const std::vector<std::string>& endpoints) {
  if (endpoints.empty() || endpoints.size() > kNodesMax) {
    return bad(std::to_string(endpoints.size()) + " endpoints; 1 to " + std::to_string(kNodesMax));
  }
  for (size_t i = 0; i < endpoints.size(); ++i) {
    if (!has_port(endpoints[i])) return bad("endpoint \"" + endpoints[i] + "\" is not host:port");
    const auto end = endpoints.begin() + static_cast<ptrdiff_t>(i);
    if (std::find(endpoints.begin(), end, endpoints[i]) == end) continue;
    return bad("endpoint \"" + endpoints[i] + "\" is named twice: name each node once");
  }
  return ok_status();
}

std::string in_milliseconds(std::chrono::milliseconds time) {
  return std::to_string(time.count()) + " ms";
}
}  // namespace

Status ClientConfig::validate() const {
  constexpr uint32_t kConnectionsMax = kConnectionsPerSessionMax - 1;
  constexpr std::chrono::milliseconds kLongest = std::chrono::hours(1);
  TERRACE_RETURN_IF_ERROR(check_endpoints(endpoints));
  if (tenant.empty() || tenant.size() > 128) {
    return bad("tenant of " + std::to_string(tenant.size()) + " bytes; 1 to 128");
  }
  if (token.size() > 4096) {
    return bad("token of " + std::to_string(token.size()) + " bytes; at most 4096");
  }
  if (data_connections < 1 || data_connections > kConnectionsMax) {
    return bad("data_connections " + std::to_string(data_connections) + "; 1 to " +
               std::to_string(kConnectionsMax));
  }
  if (open_timeout.count() < 1 || open_timeout > kLongest) {
    return bad("open_timeout " + in_milliseconds(open_timeout) + "; 1 ms to 1 h");
  }
  if (default_deadline.count() < 1 || default_deadline > kLongest) {
    return bad("default_deadline " + in_milliseconds(default_deadline) + "; 1 ms to 1 h");
  }
  if (operations_max < 1 || operations_max > kOperationsPerSessionMax) {
    return bad("operations_max " + std::to_string(operations_max) + "; 1 to " +
               std::to_string(kOperationsPerSessionMax));
  }
  if (poll_for.count() < 0 || poll_for > kPollLongest) {
    return bad("poll_for " + std::to_string(poll_for.count()) + " us; 0 to " +
               std::to_string(kPollLongest.count()));
  }
  const Status parsed = parse_cpu_list(cpus).status();
  return parsed.ok() ? ok_status() : bad("cpus: " + parsed.message());
}
}  // namespace terrace
