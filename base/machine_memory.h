// base/machine_memory.h - how much memory there is, and how much of it a process could still get.
// Thread-safe.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace terrace {

/// Of the machine.
uint64_t machine_memory_bytes();
/// What the machine says is available, or what is left of the limit of our control group or of one
/// that it is in, when that is less: whoever takes more may be killed for it. nullopt: nobody says.
std::optional<uint64_t> available_memory_bytes();

/// Of the text of /proc/meminfo: MemAvailable. nullopt: it has no such line.
std::optional<uint64_t> meminfo_available(std::string_view meminfo);
/// Of the texts of a control group's memory.max, memory.current and memory.stat: page cache that
/// nobody used lately (inactive_file) is given up before a limit is. nullopt: no limit.
std::optional<uint64_t> group_memory_left(std::string_view max, std::string_view current,
                                          std::string_view stat);
/// What is left of the tightest of the control groups of a process: of the text of its
/// /proc/PID/cgroup, of version 2 and of version 1's memory controller, each group and all above
/// it. `read` gives the text of a file, empty when there is none. nullopt: no limit.
std::optional<uint64_t> groups_memory_left(
    std::string_view groups, const std::function<std::string(const std::string& path)>& read);
}  // namespace terrace
