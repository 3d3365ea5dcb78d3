#include "tools/cli/bench_perftest.h"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "base/limits.h"
#include "tools/cli/bench_process.h"
#include "tools/cli/output.h"

namespace terrace {
namespace {
constexpr const char* kDevices = "/sys/class/infiniband";
constexpr uint64_t kWritesFirst = 128;
constexpr uint64_t kWritesMax = 1'000'000;
constexpr int kAttemptsMax = 5;
constexpr int kConnectsMax = 20;
constexpr milliseconds kListening{100};
constexpr milliseconds kTimeout{120'000};
constexpr uint32_t kGidsMax = 256;
constexpr double kGbPerSecondMax = 1e4;  // more is a clock that failed

double children_cpu() {
  rusage usage{};
  (void)::getrusage(RUSAGE_CHILDREN, &usage);
  const auto s = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return s(usage.ru_utime) + s(usage.ru_stime);
}
}  // namespace

StatusOr<double> parse_perftest(std::string_view text) {
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    uint64_t bytes = 0;
    uint64_t count = 0;
    double peak = 0;
    double average = 0;  // MiB/s
    if (!(words >> bytes >> count >> peak >> average) || bytes != kMiB) continue;
    const double gb_per_s = average * static_cast<double>(kMiB) / 1e9;
    if (std::isfinite(gb_per_s) && gb_per_s > 0 && gb_per_s < kGbPerSecondMax) return gb_per_s;
  }
  return error(StatusCode::kInvalidArgument, "ib_write_bw's report has no figure for 1 MiB");
}

uint32_t choose_gid(const std::string& gid_directory) {
  for (uint32_t i = 0; i < kGidsMax; ++i) {
    std::ifstream file(gid_directory + "/" + std::to_string(i));
    std::string gid;
    if (!(file >> gid)) break;
    if (gid.starts_with("0000:0000:0000:0000:0000:ffff:")) return i;
  }
  return 0;
}

StatusOr<Perftest> Perftest::find() {
  std::vector<std::string> names;
  std::error_code problem;
  for (const auto& entry : std::filesystem::directory_iterator(kDevices, problem)) {
    names.push_back(entry.path().filename().string());
  }
  if (names.empty()) {
    return error(StatusCode::kUnavailable,
                 std::string("no RDMA device in ") + kDevices + ": load a driver");
  }
  const std::string first = *std::min_element(names.begin(), names.end());
  return Perftest(first, choose_gid(std::string(kDevices) + "/" + first + "/ports/1/gids"));
}

StatusOr<double> Perftest::attempt(uint64_t writes) const {
  TERRACE_ASSIGN_OR_RETURN(const uint16_t port, free_port());
  std::vector<std::string> words = {"ib_write_bw", "-F",
                                    "-d",          device_,
                                    "-x",          std::to_string(gid_),
                                    "-s",          "1048576",
                                    "-n",          std::to_string(writes),
                                    "-p",          std::to_string(port)};
  TERRACE_ASSIGN_OR_RETURN(ChildProcess server, ChildProcess::start(words));
  words.push_back("127.0.0.1");
  StatusOr<std::string> text = StatusCode::kUnavailable;
  // It takes its time to listen, and says nothing when it does.
  for (int i = 0; i < kConnectsMax && !text.ok(); ++i) {
    pause_for(kListening);
    if (!server.running() && server.wait() == 127) {
      return error(StatusCode::kUnavailable, "ib_write_bw: not installed (package perftest)");
    }
    text = run_program(words, kTimeout);
  }
  if (!text.ok()) return text.status();
  (void)server.wait();  // it ends with its client
  return parse_perftest(*text);
}

/// Its clock sometimes fails (of an emulated machine above all), and it is asked again.
StatusOr<Figure> Perftest::write_for(Nanos duration) {
  const double bytes = gb_per_s_ * 1e9 * seconds_of(duration);
  const uint64_t writes = std::clamp(static_cast<uint64_t>(bytes / static_cast<double>(kMiB)),
                                     kWritesFirst, kWritesMax);
  Status problem;
  for (int i = 0; i < kAttemptsMax; ++i) {
    const double cpu = children_cpu();
    const StatusOr<double> found = attempt(writes);
    if (found.ok()) {
      gb_per_s_ = *found;
      const double gb = static_cast<double>(writes * kMiB) / 1e9;
      return Figure{.gb_per_s = *found, .cpu_s_per_gb = ratio_of(children_cpu() - cpu, gb)};
    }
    problem = found.status();
  }
  return error(StatusCode::kUnavailable, "no ceiling for RDMA: " + problem.message());
}
}  // namespace terrace
