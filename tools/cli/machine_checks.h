// tools/cli/machine_checks.h - what a node and its clients need of a machine, looked at one by one.
// Each check blocks for at most a second or two, changes nothing that stays, and needs no
// privilege.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace terrace {

enum class Verdict : uint8_t { ok, warn, fail };
const char* name_of(Verdict verdict);

struct Check {
  std::string name;
  Verdict verdict = Verdict::ok;
  std::string found;
  std::string advice;  // what to do; empty when all is well
};

/// io_uring as the loop uses it, and its zero-copy send.
Check check_io_uring();
/// How much memory may be locked.
Check check_memlock();
Check check_huge_pages();
/// Open files: one per connection and slab.
Check check_open_files();
/// O_DIRECT writes and flushes in `directory`, on a file without a name.
Check check_direct_io(const std::string& directory);
/// Whether 127.0.0.1:`port` is free; a node of ours on it (`ours`) is well too.
Check check_port(uint16_t port, bool ours);
/// A monotonic clock that is cheap to read, and a synchronised wall clock.
Check check_clock();
/// Kernel and this program.
Check check_versions();
/// CRC32C in hardware.
Check check_cpu();
}  // namespace terrace
