// server/node/config.h - what an operator may decide about a node: TOML file, then flags, validated
// and printed at start. Nobody else reads files, flags or the environment.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "server/node/systemd_store.h"
#include "storage/store_config.h"

namespace terrace {

/// Who a token stands for.
struct TokenConfig {
  std::string tenant;
  std::string sha256;  // of the token, 64 hex digits, so that the file holds no secret
  bool admin = false;  // may administer tiers: verify, drain, resize
};

/// What one tenant may have.
struct TenantConfig {
  std::string name;
  uint64_t bytes_per_s_max = 0;  // to and from its clients together
};

struct NodeConfig {
  std::string node_id = "node-0";
  std::string listen_host = "127.0.0.1";
  uint16_t control_port = 7410;  // gRPC; 0 picks a free one
  uint16_t data_port = 7411;     // framed protocol; 0 picks a free one
  uint16_t metrics_port = 7412;  // Prometheus; 0 picks a free one
  bool metrics = true;
  bool rdma = false;       // clients may exchange queue pairs
  bool shm = true;         // clients of this host may use shared memory
  std::string shm_socket;  // where they connect: a path, or @name; empty: an @name of our own
  bool dev = false;        // no tokens needed; any client may name any tenant
  std::string log_level = "info";
  std::vector<TokenConfig> tokens;
  std::vector<TenantConfig> tenants;  // those with a cap
  StoreConfig store;
  std::string cpus;                         // where the data loop runs, "0-3,8"; empty: anywhere
  std::chrono::microseconds poll_for{0};    // it looks for work so long before it sleeps
  std::string hbm_device = "cuda:0";        // whose memory the hbm tier is, with store.hbm_bytes
  std::string hbm_tenant;                   // whose objects alone; empty: of all
  std::string warm_restart = "off";         // who keeps dram: off, keeper, systemd, auto
  std::string keeper_socket;                // of the keeper; empty: KEEPER in the data directory
  std::chrono::seconds keeper_linger{300};  // how long it waits for the next node
  SystemdFacts systemd;                     // of this process, not an option
  uint32_t sessions_max = 1024;
  uint32_t operations_in_flight_max = 4096;         // of the node; past it: refused at once
  uint64_t fetch_window_bytes = uint64_t{8} << 20;  // per operation, between tier and wire
  uint64_t wire_window_bytes = uint64_t{16} << 20;  // of all operations, on their way at once
  uint64_t view_bytes_max = 0;                      // in view of clients; 0: a quarter of dram
  uint32_t namespaces_per_tenant_max = 1024;
  uint64_t namespace_bytes_max = 0;         // quota per namespace; 0: none
  uint64_t namespace_pinned_bytes_max = 0;  // of pinned objects; 0: an eighth of the largest tier
  std::chrono::milliseconds view_hold_max{60'000};  // before a view may be revoked for another
  std::chrono::milliseconds view_grace{1'000};      // how long revoked bytes rest
  std::chrono::milliseconds lease_max{60'000};
  std::chrono::milliseconds operation_deadline_max{60'000};
  std::chrono::milliseconds drain_timeout{10'000};  // clean shutdown waits this long

  /// kInvalidArgument names the option, its value and its limit. Without `dev` and without tokens a
  /// node refuses to start.
  Status validate() const;
};

/// The command line: flags override the file that --config names. kInvalidArgument names the flag
/// and what is allowed; kNotFound a missing file. `help` is set when --help or --version was asked
/// for: print it and stop.
StatusOr<NodeConfig> parse_command_line(int argc, const char* const* argv, std::string* help);
/// TOML text on top of `config`; unknown options are refused. For errors, `source` names the file.
Status apply_toml(const std::string& text, const std::string& source, NodeConfig* config);
/// The effective configuration as TOML that apply_toml reads back; token digests are left out.
std::string to_toml(const NodeConfig& config);
}  // namespace terrace
