#include "base/cpu.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <memory>

namespace terrace {
namespace {

constexpr int kPreferred = 1;         // MPOL_PREFERRED, kernel ABI
constexpr uint32_t kNodesMax = 1024;  // the kernel's bound
constexpr const char* kNodes = "/sys/devices/system/node";

Status bad_list(std::string_view text) {
  return error(StatusCode::kInvalidArgument, "cpu list \"" + std::string(text) +
                                                 "\": numbers and ranges like 0-3,8, below " +
                                                 std::to_string(kCpusMax));
}

bool parse_number(std::string_view* text, uint32_t* number) {
  const auto [end, wrong] = std::from_chars(text->data(), text->data() + text->size(), *number);
  if (wrong != std::errc() || *number >= kCpusMax) return false;
  text->remove_prefix(static_cast<size_t>(end - text->data()));
  return true;
}

/// A cpu_set_t with room for kCpusMax.
class CpuSet {
 public:
  CpuSet() : set_(CPU_ALLOC(kCpusMax), &free_set) { CPU_ZERO_S(bytes(), set_.get()); }
  static size_t bytes() { return CPU_ALLOC_SIZE(kCpusMax); }
  cpu_set_t* get() { return set_.get(); }
  void add(uint32_t cpu) { CPU_SET_S(cpu, bytes(), set_.get()); }
  bool has(uint32_t cpu) const { return CPU_ISSET_S(cpu, bytes(), set_.get()); }

 private:
  static void free_set(cpu_set_t* set) { CPU_FREE(set); }
  std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set_;
};

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

std::vector<uint32_t> numa_nodes() {
  std::vector<uint32_t> nodes;
  for (uint32_t n = 0; n < kNodesMax; ++n) {
    if (exists(std::string(kNodes) + "/node" + std::to_string(n))) nodes.push_back(n);
  }
  return nodes;
}
}  // namespace

StatusOr<std::vector<uint32_t>> parse_cpu_list(std::string_view text) {
  std::vector<uint32_t> cpus;
  std::string_view left = text;
  while (!left.empty()) {
    uint32_t first = 0;
    if (!parse_number(&left, &first)) return bad_list(text);
    uint32_t last = first;
    if (left.starts_with('-')) {
      left.remove_prefix(1);
      if (!parse_number(&left, &last) || last < first) return bad_list(text);
    }
    for (uint32_t cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
    if (left.empty()) break;
    if (!left.starts_with(',') || left.size() == 1) return bad_list(text);
    left.remove_prefix(1);
  }
  std::sort(cpus.begin(), cpus.end());
  cpus.erase(std::unique(cpus.begin(), cpus.end()), cpus.end());
  return cpus;
}

std::string format_cpu_list(std::span<const uint32_t> cpus) {
  std::string out;
  for (size_t i = 0; i < cpus.size();) {
    size_t end = i + 1;
    while (end < cpus.size() && cpus[end] == cpus[end - 1] + 1) ++end;
    if (!out.empty()) out += ',';
    out += std::to_string(cpus[i]);
    if (end - i > 1) out += '-' + std::to_string(cpus[end - 1]);
    i = end;
  }
  return out;
}

std::vector<uint32_t> cpus_of_this_thread() {
  CpuSet set;
  std::vector<uint32_t> cpus;
  if (::sched_getaffinity(0, CpuSet::bytes(), set.get()) != 0) return cpus;
  for (uint32_t cpu = 0; cpu < kCpusMax; ++cpu) {
    if (set.has(cpu)) cpus.push_back(cpu);
  }
  return cpus;
}

Status pin_this_thread(std::span<const uint32_t> cpus) {
  CpuSet set;
  for (const uint32_t cpu : cpus) {
    if (cpu < kCpusMax) set.add(cpu);
  }
  if (::sched_setaffinity(0, CpuSet::bytes(), set.get()) == 0) return ok_status();
  return error(StatusCode::kInvalidArgument,
               "cpus " + format_cpu_list(cpus) + ": " + errno_status(errno, "pinning").message() +
                   "; this process may use " + format_cpu_list(cpus_of_this_thread()));
}

std::optional<uint32_t> numa_node_of(std::span<const uint32_t> cpus) {
  const std::vector<uint32_t> nodes = numa_nodes();
  if (nodes.size() < 2 || cpus.empty()) return std::nullopt;
  for (const uint32_t node : nodes) {
    const std::string directory = std::string(kNodes) + "/node" + std::to_string(node) + "/cpu";
    const bool all = std::all_of(cpus.begin(), cpus.end(), [&](uint32_t cpu) {
      return exists(directory + std::to_string(cpu));
    });
    if (all) return node;
  }
  return std::nullopt;
}

Status prefer_numa_node(std::span<std::byte> memory, uint32_t node) {
  if (node >= kNodesMax) {
    return error(StatusCode::kInvalidArgument,
                 "NUMA node " + std::to_string(node) + ": below " + std::to_string(kNodesMax));
  }
  constexpr uint32_t kBits = 8 * sizeof(unsigned long);
  unsigned long mask[kNodesMax / kBits] = {};
  mask[node / kBits] = 1ul << (node % kBits);
  // The kernel reads one bit less than it is told.
  if (::syscall(SYS_mbind, memory.data(), memory.size(), kPreferred, mask, kNodesMax + 1, 0) == 0) {
    return ok_status();
  }
  return error(StatusCode::kUnavailable,
               errno_status(errno, "memory on NUMA node " + std::to_string(node)).message());
}
}  // namespace terrace
