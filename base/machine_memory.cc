#include "base/machine_memory.h"

#include <sys/sysinfo.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <string>

namespace terrace {
namespace {

std::string text_of(const char* path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// The number that `text` begins with, behind spaces.
std::optional<uint64_t> number_in(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  uint64_t out = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (failed != std::errc()) return std::nullopt;
  return out;
}
}  // namespace

uint64_t machine_memory_bytes() {
  struct sysinfo memory {};
  ::sysinfo(&memory);
  return uint64_t{memory.totalram} * memory.mem_unit;
}

std::optional<uint64_t> meminfo_available(std::string_view meminfo) {
  constexpr std::string_view kLine = "MemAvailable:";
  const size_t at = meminfo.find(kLine);
  if (at == std::string_view::npos) return std::nullopt;
  const std::optional<uint64_t> kib = number_in(meminfo.substr(at + kLine.size()));
  if (!kib || *kib > ~uint64_t{0} / 1024) return std::nullopt;
  return *kib * 1024;
}

std::optional<uint64_t> group_memory_left(std::string_view max, std::string_view current) {
  const std::optional<uint64_t> limit = number_in(max);  // "max": none
  const std::optional<uint64_t> used = number_in(current);
  if (!limit || !used) return std::nullopt;
  return *limit - std::min(*limit, *used);
}

std::optional<uint64_t> available_memory_bytes() {
  const std::optional<uint64_t> machine = meminfo_available(text_of("/proc/meminfo"));
  // Of a container; a process outside of one sees the files of the root group, which has none.
  const std::optional<uint64_t> group = group_memory_left(text_of("/sys/fs/cgroup/memory.max"),
                                                          text_of("/sys/fs/cgroup/memory.current"));
  if (machine && group) return std::min(*machine, *group);
  return machine ? machine : group;
}
}  // namespace terrace
