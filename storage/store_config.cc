#include "storage/store_config.h"

#include <algorithm>

namespace terrace {
namespace {

Status bad(const std::string& option, uint64_t value, const std::string& limit) {
  return error(StatusCode::kInvalidArgument, option + "=" + std::to_string(value) + ": " + limit);
}

Status validate_memory(const StoreConfig& config) {
  const uint64_t region = 64 * kMiB;
  const bool whole = config.dram_bytes % region == 0;
  const bool small = config.dram_bytes < region && config.dram_bytes % kMiB == 0;
  if (config.dram_bytes == 0 || (!whole && !small)) {
    return bad("dram_bytes", config.dram_bytes, "a multiple of 64 MiB, or 1 to 63 MiB");
  }
  const uint64_t unit = config.slab_bytes < region ? kMiB : region;
  if (config.slab_bytes % unit != 0 || config.slab_bytes > kGiB) {
    return bad(
        "slab_bytes", config.slab_bytes,
        "1 to 63 MiB, or a multiple of 64 MiB and at most 1 GiB; 0: an eighth of dram_bytes");
  }
  if (config.staging_bytes < 4 * kMiB) {
    return bad("staging_bytes", config.staging_bytes, "at least 4 MiB");
  }
  return ok_status();
}

Status validate_shared(const StoreConfig& config) {
  TERRACE_RETURN_IF_ERROR(config.shared_s3.validate());
  if (!config.has_shared()) return ok_status();
  if (!config.shared_directory.empty() && config.shared_s3.used()) {
    return error(StatusCode::kInvalidArgument,
                 "shared_directory and shared_s3: a node has one shared tier, not two");
  }
  // Ages on a bucket are known to a second, and leases are renewed after a third of their time.
  if (config.shared_s3.used() && config.shared_generate_lease.count() < 3000) {
    return bad("shared_generate_lease_ms",
               static_cast<uint64_t>(config.shared_generate_lease.count()),
               "at least 3000 with shared_s3");
  }
  if (config.shared_s3.used() && config.shared_sweep_period.count() < 1000) {
    return bad("shared_sweep_period_ms", static_cast<uint64_t>(config.shared_sweep_period.count()),
               "at least 1000 with shared_s3");
  }
  if (config.shared_s3.used() && config.shared_timeout.count() < 1000) {
    return bad("shared_timeout_ms", static_cast<uint64_t>(config.shared_timeout.count()),
               "at least 1000 with shared_s3");
  }
  if (config.shared_bytes_max < kMiB) {
    return bad("shared_bytes_max", config.shared_bytes_max,
               "at least 1 MiB with a shared tier: what all nodes together may keep there");
  }
  if (config.shared_threads == 0 || config.shared_threads > 64) {
    return bad("shared_threads", config.shared_threads, "1 to 64");
  }
  if (config.shared_timeout.count() < 10 || config.shared_timeout > std::chrono::minutes(10)) {
    return bad("shared_timeout_ms", static_cast<uint64_t>(config.shared_timeout.count()),
               "10 to 600000");
  }
  if (config.shared_list_period.count() < 10) {
    return bad("shared_list_period_ms", static_cast<uint64_t>(config.shared_list_period.count()),
               "at least 10");
  }
  if (config.shared_sweep_period.count() < 10) {
    return bad("shared_sweep_period_ms", static_cast<uint64_t>(config.shared_sweep_period.count()),
               "at least 10");
  }
  if (config.shared_generate_lease.count() < 100) {
    return bad("shared_generate_lease_ms",
               static_cast<uint64_t>(config.shared_generate_lease.count()), "at least 100");
  }
  if (config.shared_grace.count() < 1) return bad("shared_grace_s", 0, "at least 1");
  return ok_status();
}
}  // namespace

uint64_t StoreConfig::slab_size() const {
  const uint64_t region = 64 * kMiB;
  uint64_t bytes = slab_bytes;
  if (bytes == 0) {
    const uint64_t eighth = dram_bytes / 8;
    const uint64_t unit = eighth < region ? kMiB : region;
    bytes = std::clamp(eighth / unit * unit, 4 * kMiB, 256 * kMiB);
  }
  return std::min(bytes, dram_bytes);
}

std::vector<std::string> StoreConfig::data_paths() const {
  if (data_file.empty()) return {data_directory + "/terrace.dat"};
  std::vector<std::string> paths;
  for (size_t at = 0; at <= data_file.size();) {
    const size_t comma = std::min(data_file.find(',', at), data_file.size());
    paths.push_back(data_file.substr(at, comma - at));
    at = comma + 1;
  }
  return paths;
}

Status StoreConfig::validate() const {
  TERRACE_RETURN_IF_ERROR(validate_memory(*this));
  TERRACE_RETURN_IF_ERROR(validate_shared(*this));
  if (hbm_bytes % (2 * kMiB) != 0 || hbm_bytes > uint64_t{1} << 40) {
    return bad("hbm_bytes", hbm_bytes, "a multiple of 2 MiB, at most 1 TiB; 0 for no hbm tier");
  }
  if (nvme_bytes > 0 && nvme_bytes < 2 * kMiB) {
    return bad("nvme_bytes", nvme_bytes, "at least 2 MiB, or 0 for no nvme tier");
  }
  if (nvme_bytes > 0 && data_directory.empty()) {
    return error(StatusCode::kInvalidArgument, "data_directory is empty with an nvme tier");
  }
  if (nvme_bytes > uint64_t{16} << 40) {
    return bad("nvme_bytes", nvme_bytes, "at most 16 TiB, of each device");
  }
  if (nvme_write_budget_gib_per_day > uint64_t{1} << 30) {
    return bad("nvme_write_budget_gib_per_day", nvme_write_budget_gib_per_day, "at most 2^30");
  }
  for (const std::string& path : data_paths()) {
    if (!path.empty()) continue;
    return error(StatusCode::kInvalidArgument,
                 "data_file=\"" + data_file + "\": an empty path; comma between paths");
  }
  if (watermark_permille > 20) return bad("watermark_permille", watermark_permille, "at most 20");
  if (nvme_trim_interval_hours > 8760) {
    return bad("nvme_trim_interval_hours", nvme_trim_interval_hours, "0 (never) to 8760");
  }
  if (promote_hits > 255) return bad("promote_hits", promote_hits, "0 to 255");
  if (puts_in_flight_max == 0) return bad("puts_in_flight_max", 0, "at least 1");
  if (device_reads_in_flight_max == 0 || device_reads_in_flight_max > 4096) {
    return bad("device_reads_in_flight_max", device_reads_in_flight_max, "1 to 4096");
  }
  if (device_writes_in_flight_max == 0 || device_writes_in_flight_max > 4096) {
    return bad("device_writes_in_flight_max", device_writes_in_flight_max, "1 to 4096");
  }
  if (device_timeout.count() <= 0) return bad("device_timeout_ms", 0, "more than 0");
  if (scrub_period.count() > 0 && scrub_mib_per_s == 0) {
    return bad("scrub_mib_per_s", 0, "at least 1 while scrub_period is not 0");
  }
  if (uses_period.count() < 0 || uses_period > std::chrono::hours(24)) {
    return bad("uses_period_s", static_cast<uint64_t>(uses_period.count()),
               "at most 86400; 0: what was learned of uses ends with the node");
  }
  if (departures_bytes > kGiB) {
    return bad("departures_bytes", departures_bytes, "at most 1 GiB; 0 remembers nothing");
  }
  if (objects_max == 0 || objects_max > 1'000'000'000) {
    return bad("objects_max", objects_max, "1 to 1,000,000,000");
  }
  return ok_status();
}
}  // namespace terrace
