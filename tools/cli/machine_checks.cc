#include "tools/cli/machine_checks.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/utsname.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/handle.h"
#include "base/limits.h"
#include "base/loop.h"
#include "base/version.h"
#include "tools/cli/output.h"

namespace terrace {
namespace {
constexpr uint64_t kLockedBytesWanted = kGiB;
constexpr rlim_t kOpenFilesWanted = 4096;
constexpr Nanos kFlushSlow = milliseconds(20);
constexpr Nanos kClockReadSlow = Nanos(500);
constexpr uint64_t kFreeBytesWanted = 2 * kGiB;

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// The number behind `name:` in /proc/meminfo; 0 when it is not there.
uint64_t meminfo(const std::string& name) {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name + ":")) {
      return std::strtoull(line.c_str() + name.size() + 1, nullptr, 10);
    }
  }
  return 0;
}
std::string limit_text(rlim_t limit) {
  return limit == RLIM_INFINITY ? "unlimited" : human_bytes(limit);
}
}  // namespace

const char* name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::ok:
      return "ok";
    case Verdict::warn:
      return "warn";
    case Verdict::fail:
      return "fail";
  }
  return "unknown";
}

Check check_io_uring() {
  const SystemClock clock;
  const StatusOr<std::unique_ptr<Loop>> loop = Loop::create({}, &clock);
  if (!loop.ok()) {
    return {"io_uring", Verdict::fail, loop.status().message(),
            "set sysctl kernel.io_uring_disabled=0; in a container allow the io_uring calls in its "
            "seccomp profile; raise `ulimit -l`"};
  }
  if (!(*loop)->has_zero_copy_send()) {
    return {"io_uring", Verdict::warn, "works, without zero-copy send",
            "Linux 6.1 or newer sends with less CPU"};
  }
  return {"io_uring", Verdict::ok, "works, with zero-copy send", ""};
}

Check check_memlock() {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  const bool enough = limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= kLockedBytesWanted;
  const std::string found = "may lock " + limit_text(limit.rlim_cur);
  if (enough || ::geteuid() == 0) {
    return {"memlock", Verdict::ok, found + (enough ? "" : ", but runs as root"), ""};
  }
  return {
      "memlock", Verdict::warn, found,
      "the dram tier stays unlocked and unregistered, which is slower: LimitMEMLOCK=infinity in "
      "the unit, or `ulimit -l unlimited`"};
}

Check check_huge_pages() {
  const uint64_t pages = meminfo("HugePages_Total");
  const uint64_t free_pages = meminfo("HugePages_Free");
  const std::string transparent = first_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  const std::string found = std::to_string(free_pages) + " of " + std::to_string(pages) +
                            " reserved pages free; transparent for shared memory: " +
                            (transparent.empty() ? "unknown" : transparent);
  const bool transparent_works = transparent.find("[always]") != std::string::npos ||
                                 transparent.find("[advise]") != std::string::npos ||
                                 transparent.find("[within_size]") != std::string::npos;
  if (free_pages > 0 || transparent_works) return {"huge pages", Verdict::ok, found, ""};
  return {"huge pages", Verdict::warn, found,
          "copies from dram cost more: sysctl vm.nr_hugepages=N, or `echo advise > "
          "/sys/kernel/mm/transparent_hugepage/shmem_enabled`"};
}

Check check_open_files() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const std::string found = std::to_string(limit.rlim_cur) + " files may be open";
  if (limit.rlim_cur >= kOpenFilesWanted) return {"open files", Verdict::ok, found, ""};
  return {"open files", Verdict::warn, found,
          "many clients need more: LimitNOFILE=65536 in the unit, or `ulimit -n 65536`"};
}

Check check_direct_io(const std::string& directory) {
  const std::string name = "O_DIRECT in " + directory;
  const Fd file(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600));
  if (!file) {
    return {name, Verdict::fail, std::strerror(errno),
            "the nvme tier needs a writable directory on a file system with O_DIRECT (ext4, xfs), "
            "not tmpfs: choose one with --directory and data_directory"};
  }
  StatusOr<AlignedBuffer> buffer = AlignedBuffer::allocate(kMiB);
  if (!buffer.ok()) return {name, Verdict::fail, buffer.status().message(), "free some memory"};
  const SystemClock clock;
  const Nanos start = clock.now();
  if (::pwrite(file.get(), buffer->data(), kMiB, 0) != static_cast<ssize_t>(kMiB)) {
    return {name, Verdict::fail, std::string("write: ") + std::strerror(errno), "check the disk"};
  }
  const Nanos written = clock.now();
  if (::fdatasync(file.get()) != 0) {
    return {name, Verdict::fail, std::string("flush: ") + std::strerror(errno), "check the disk"};
  }
  const Nanos flushed = clock.now();
  struct statvfs space {};
  ::fstatvfs(file.get(), &space);
  const uint64_t free_bytes = uint64_t{space.f_bavail} * space.f_frsize;
  const std::string found = "1 MiB written in " + human_duration(written - start) +
                            ", flushed in " + human_duration(flushed - written) + ", " +
                            human_bytes(free_bytes) + " free";
  if (free_bytes < kFreeBytesWanted) {
    return {name, Verdict::warn, found, "the disk is nearly full: set nvme_bytes to what it has"};
  }
  if (flushed - written > kFlushSlow) {
    return {name, Verdict::warn, found,
            "flushes are slow: puts with durability nvme will wait; a disk with power-loss "
            "protection helps"};
  }
  return {name, Verdict::ok, found, ""};
}

Check check_port(uint16_t port, bool ours) {
  const std::string name = "port " + std::to_string(port);
  if (ours) return {name, Verdict::ok, "a node listens", ""};
  const Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
    return {name, Verdict::ok, "free", ""};
  }
  return {name, Verdict::warn, std::strerror(errno),
          "another program has it: `ss -ltnp | grep " + std::to_string(port) +
              "`; or give the node another port"};
}

Check check_clock() {
  constexpr int kReads = 1000;
  const SystemClock clock;
  const Nanos start = clock.now();
  Nanos last = start;
  for (int i = 0; i < kReads; ++i) {
    const Nanos now = clock.now();
    if (now < last) {
      return {"clock", Verdict::fail, "the monotonic clock went back", "do not use this machine"};
    }
    last = now;
  }
  const Nanos each = (last - start) / kReads;
  timex state{};
  const bool synchronised = ::adjtimex(&state) != TIME_ERROR && (state.status & STA_UNSYNC) == 0;
  const std::string source =
      first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  const std::string found = (source.empty() ? "unknown" : source) + " source, " +
                            std::to_string(each.count()) + " ns a reading, wall clock " +
                            (synchronised ? "synchronised" : "not synchronised");
  if (each > kClockReadSlow) {
    return {"clock", Verdict::warn, found, "slow to read: prefer the tsc or kvm-clock source"};
  }
  if (!synchronised) {
    return {"clock", Verdict::warn, found,
            "only log times suffer; run chrony or systemd-timesyncd"};
  }
  return {"clock", Verdict::ok, found, ""};
}

Check check_versions() {
  utsname system{};
  ::uname(&system);
  int major = 0;
  int minor = 0;
  std::sscanf(system.release, "%d.%d", &major, &minor);
  const std::string found =
      std::string("terrace ") + kVersion + ", " + system.sysname + " " + system.release;
  if (major > 5 || (major == 5 && minor >= 15)) return {"versions", Verdict::ok, found, ""};
  return {"versions", Verdict::warn, found, "tested with Linux 6.1 and newer"};
}

Check check_cpu() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2") == 0) {
    return {"cpu", Verdict::warn, "no CRC32C instruction", "checksums will be slow"};
  }
  const bool wide = __builtin_cpu_supports("avx512f") != 0;
  return {"cpu", Verdict::ok, std::string("CRC32C in hardware") + (wide ? ", AVX-512" : ""), ""};
#else
  return {"cpu", Verdict::ok, "not x86-64: ISA-L chooses", ""};
#endif
}
}  // namespace terrace
