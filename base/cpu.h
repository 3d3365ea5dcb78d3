// base/cpu.h - where threads run and where memory lies, on machines where that matters. Linux only.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace terrace {

inline constexpr uint32_t kCpusMax = 8192;  // numbers below this, Linux's own bound

/// CPUs as the kernel writes them, "0-3,8": sorted, each once; "" is none. kInvalidArgument names
/// what does not parse.
StatusOr<std::vector<uint32_t>> parse_cpu_list(std::string_view text);
std::string format_cpu_list(std::span<const uint32_t> cpus);

/// The calling thread runs on these CPUs only. kInvalidArgument: none of them is this process's to
/// use (no such CPU, or its cpuset leaves it out); the message lists those that are.
Status pin_this_thread(std::span<const uint32_t> cpus);
/// Those the calling thread may run on.
std::vector<uint32_t> cpus_of_this_thread();

/// The NUMA node that all of `cpus` belong to; nothing when they belong to several, or when the
/// machine has only one, so that there is nothing to choose.
std::optional<uint32_t> numa_node_of(std::span<const uint32_t> cpus);
/// Pages of `memory`, a shared mapping and page-aligned, that are touched from now on come from
/// `node` while it has room. For every mapping of the file. kUnavailable: the kernel refuses.
Status prefer_numa_node(std::span<std::byte> memory, uint32_t node);
}  // namespace terrace
