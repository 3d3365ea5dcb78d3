#include "base/machine_memory.h"

#include <sys/sysinfo.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <string>

namespace terrace {
namespace {

std::string text_of(const std::string& path) {
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

/// Of the line that begins with `name`.
std::optional<uint64_t> number_after(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    if (text.starts_with(name)) return number_in(text.substr(name.size()));
    text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
  }
  return std::nullopt;
}

std::optional<uint64_t> least(std::optional<uint64_t> a, std::optional<uint64_t> b) {
  if (a && b) return std::min(*a, *b);
  return a ? a : b;
}

/// Where a kind of groups is mounted, and what its files are called.
struct GroupFiles {
  const char* root;
  const char* max;
  const char* current;
};
constexpr GroupFiles kVersion2 = {"/sys/fs/cgroup", "/memory.max", "/memory.current"};
constexpr GroupFiles kVersion1 = {"/sys/fs/cgroup/memory", "/memory.limit_in_bytes",
                                  "/memory.usage_in_bytes"};

/// Of a line `number:controllers:path`. Null: its groups do not limit memory.
const GroupFiles* files_of(std::string_view controllers) {
  if (controllers.empty()) return &kVersion2;
  while (!controllers.empty()) {
    const size_t comma = std::min(controllers.find(','), controllers.size());
    if (controllers.substr(0, comma) == "memory") return &kVersion1;
    controllers.remove_prefix(std::min(comma + 1, controllers.size()));
  }
  return nullptr;
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

std::optional<uint64_t> group_memory_left(std::string_view max, std::string_view current,
                                          std::string_view stat) {
  const std::optional<uint64_t> limit = number_in(max);  // "max": none
  const std::optional<uint64_t> used = number_in(current);
  if (!limit || !used) return std::nullopt;
  // Version 1 says under this name what is its own alone, and the sum with an ending of its own.
  uint64_t idle = number_after(stat, "total_inactive_file ").value_or(0);
  if (idle == 0) idle = number_after(stat, "inactive_file ").value_or(0);
  return *limit - std::min(*limit, *used - std::min(*used, idle));
}

std::optional<uint64_t> groups_memory_left(
    std::string_view groups, const std::function<std::string(const std::string& path)>& read) {
  constexpr int kDepthMax = 64;
  std::optional<uint64_t> left;
  while (!groups.empty()) {
    const size_t end = std::min(groups.find('\n'), groups.size());
    const std::string_view line = groups.substr(0, end);
    groups.remove_prefix(std::min(end + 1, groups.size()));
    const size_t first = line.find(':');
    const size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const GroupFiles* const files = files_of(line.substr(first + 1, second - first - 1));
    if (files == nullptr) continue;
    // A container may see its own group as the root of all, and the path as that of its host: then
    // nothing is where the path says, and the root is its group.
    std::string path(line.substr(second + 1));
    while (!path.empty() && path.back() == '/') path.pop_back();
    for (int depth = 0; depth < kDepthMax; ++depth) {
      const std::string group = files->root + path;
      left = least(left, group_memory_left(read(group + files->max), read(group + files->current),
                                           read(group + "/memory.stat")));
      if (path.empty()) break;
      const size_t slash = path.rfind('/');
      path.resize(slash == std::string::npos ? 0 : slash);
    }
  }
  return left;
}

std::optional<uint64_t> available_memory_bytes() {
  return least(meminfo_available(text_of("/proc/meminfo")),
               groups_memory_left(text_of("/proc/self/cgroup"), text_of));
}
}  // namespace terrace
