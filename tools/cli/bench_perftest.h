// tools/cli/bench_perftest.h - the ceiling of anything over RDMA on this machine: ib_write_bw of
// perftest with writes of 1 MiB from one process to another on the same port. Blocking.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/status.h"
#include "tools/cli/bench_math.h"

namespace terrace {

class Perftest {
 public:
  /// On the first RDMA device of this machine. kUnavailable: there is none.
  static StatusOr<Perftest> find();
  /// Writes for about `duration` (the first time: 128 writes). Both processes poll, so their CPU
  /// time says what a core costs, not what the bytes do. kUnavailable: perftest is not installed,
  /// or gave no figure in several attempts.
  StatusOr<Figure> write_for(Nanos duration);
  const std::string& device() const { return device_; }

 private:
  Perftest(std::string device, uint32_t gid) : device_(std::move(device)), gid_(gid) {}
  StatusOr<double> attempt(uint64_t writes) const;
  std::string device_;
  uint32_t gid_ = 0;
  double gb_per_s_ = 0;  // of the last time; 0: none yet
};

/// GB/s (1e9 bytes) of the line for writes of 1 MiB. kInvalidArgument: there is none, or the
/// program's clock failed and it printed no number that can be.
StatusOr<double> parse_perftest(std::string_view text);
/// Of the text files `gids/N` of a port: the first that is an IPv4 address, which is routed
/// everywhere, else 0.
uint32_t choose_gid(const std::string& gid_directory);
}  // namespace terrace
