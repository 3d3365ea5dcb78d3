// storage/store_config.h - what a node may decide about its tiers. main() fills it.
#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/limits.h"
#include "base/status.h"
#include "storage/policy/policy_kind.h"
#include "storage/s3_config.h"

namespace terrace {

struct StoreConfig {
  std::string data_directory;                  // nvme tier; empty: dram only
  uint64_t dram_bytes = uint64_t{1} << 30;     // arena; a multiple of 64 MiB, or 1..63 MiB
  uint64_t slab_bytes = 0;                     // one memfd each; 0: slab_size() decides
  bool huge_pages = true;                      // when the machine has them
  bool lock_memory = true;                     // when allowed
  bool populate_memory = true;                 // ahead of use, by a background thread
  std::optional<uint32_t> numa_node;           // where slabs should lie; main() knows the loop's
  uint64_t hbm_bytes = 0;                      // of device memory; 0: no hbm tier
  uint64_t nvme_bytes = 0;                     // of a device that is new; 0: what it has
  uint64_t nvme_write_budget_gib_per_day = 0;  // of all devices together; 0: no limit
  std::string data_file;  // files or block devices, comma between; empty: in the data directory
  bool format_block_device = false;                 // a device without identity is taken over
  bool forget_missing_devices = false;              // at start, with all that lies on them
  uint64_t staging_bytes = uint64_t{64} << 20;      // buffers for reads from nvme
  std::string shared_directory;                     // shared tier; empty: none
  S3Config shared_s3;                               // or on a bucket
  uint64_t shared_bytes_max = 0;                    // of all nodes together
  uint32_t shared_threads = 4;                      // for calls of its file system, which block
  std::chrono::milliseconds shared_timeout{5'000};  // one that takes longer hangs
  std::chrono::milliseconds shared_list_period{10'000};     // how old what is known of it may be
  std::chrono::milliseconds shared_sweep_period{60'000};    // between passes of its one sweeper
  std::chrono::milliseconds shared_generate_lease{10'000};  // of who computes and does not renew
  std::chrono::seconds shared_grace{3600};  // published or removed so short ago: left alone
  PolicyKind policy = PolicyKind::value;
  uint32_t watermark_permille = 10;  // of each tier, kept free by eviction; <= 20
  uint32_t promote_hits = 2;         // nvme reads of an object before it is promoted; 0: never
  bool write_through = true;         // memory puts reach nvme in the background
  uint32_t puts_in_flight_max = 4096;
  uint32_t device_reads_in_flight_max = 64;
  uint32_t device_writes_in_flight_max = 32;
  std::chrono::milliseconds device_timeout{5'000};  // a device that takes longer hangs
  std::chrono::seconds scrub_period{3600};          // one pass over everything; 0: no scrubbing
  uint32_t scrub_mib_per_s = 64;                    // its share of the device, at most
  uint32_t nvme_trim_interval_hours = 24;           // block devices are told what is free; 0: never
  bool demote_on_close = true;                      // memory-only objects go to nvme at shutdown
  bool flush_before_acknowledge = true;             // false only in a canary test: loses data
  uint64_t objects_max = 20'000'000;                // index entries
  std::chrono::seconds uses_period{600};  // between writes of what was learned of uses; 0: never
  Nanos uses_patience = seconds(2);       // at the end, with a write of it that does not
  uint64_t departures_bytes = uint64_t{4} << 20;  // to remember what left lately; 0: nothing

  /// kInvalidArgument names the option, its value and its limit.
  Status validate() const;
  bool has_shared() const { return !shared_directory.empty() || shared_s3.used(); }
  /// Bytes of a slab, the last one may be smaller. A slab holds objects of one tenant, so there
  /// should be several for each: an eighth of dram_bytes, but 4 to 256 MiB.
  uint64_t slab_size() const;
  /// Where in the data directory things lie.
  std::vector<std::string> data_paths() const;
  std::string metadata_path() const { return data_directory + "/index"; }
};
}  // namespace terrace
