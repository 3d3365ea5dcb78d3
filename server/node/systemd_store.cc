#include "server/node/systemd_store.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <string_view>
#include <utility>

#include "server/node/fd_packet.h"
#include "server/node/keeper_process.h"
#include "transport/shm_link.h"

namespace terrace {
namespace {

constexpr uint64_t kFilesMax = 65536;
constexpr time_t kPatienceSeconds = 2;  // with a systemd that does not read

/// 0: not a number.
uint64_t number(const std::string& text) {
  uint64_t value = 0;
  const char* const end = text.data() + text.size();
  return std::from_chars(text.data(), end, value).ptr == end ? value : 0;
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  size_t from = 0;
  while (from <= text.size()) {
    const size_t end = std::min(text.find(':', from), text.size());
    parts.push_back(text.substr(from, end - from));
    from = end + 1;
  }
  return parts;
}
}  // namespace

SystemdFacts systemd_facts(const char* const* environment) {
  SystemdFacts facts;
  const std::pair<std::string_view, std::string*> wanted[] = {
      {"NOTIFY_SOCKET=", &facts.notify_socket},
      {"LISTEN_PID=", &facts.listen_pid},
      {"LISTEN_FDS=", &facts.listen_fds},
      {"LISTEN_FDNAMES=", &facts.listen_names},
      {"FDSTORE=", &facts.store_max}};
  for (; *environment != nullptr; ++environment) {
    const std::string_view line(*environment);
    for (const auto& [name, into] : wanted) {
      if (line.starts_with(name)) *into = line.substr(name.size());
    }
  }
  return facts;
}

StatusOr<std::unique_ptr<SystemdStore>> SystemdStore::open(const SystemdFacts& facts,
                                                           const std::array<std::byte, 16>& owner) {
  if (facts.notify_socket.empty()) {
    return error(StatusCode::kFailedPrecondition,
                 "warm-restart=systemd, but $NOTIFY_SOCKET is not set: the unit needs "
                 "FileDescriptorStoreMax= of at least the number of slabs and one, and "
                 "NotifyAccess=main");
  }
  TERRACE_ASSIGN_OR_RETURN(const SocketAddress address, parse_unix_address(facts.notify_socket));
  Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const timeval patience{kPatienceSeconds, 0};
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  if (!socket || ::connect(socket.get(), address.get(), address.length) != 0) {
    return errno_status(errno, "connecting to $NOTIFY_SOCKET " + facts.notify_socket);
  }
  return std::unique_ptr<SystemdStore>(
      new SystemdStore(facts, "terrace-" + keeper_owner_text(owner) + "-", std::move(socket)));
}

StatusOr<std::vector<KeptFile>> SystemdStore::take_all(int first) {
  std::vector<KeptFile> ours;
  const uint64_t count = number(facts_.listen_fds);
  if (count == 0 || number(facts_.listen_pid) != static_cast<uint64_t>(::getpid())) return ours;
  const std::vector<std::string> names = split(facts_.listen_names);
  if (count > kFilesMax || names.size() != count) {
    return error(StatusCode::kInvalidArgument, "$LISTEN_FDS=" + facts_.listen_fds + " with " +
                                                   std::to_string(names.size()) +
                                                   " names in $LISTEN_FDNAMES");
  }
  for (uint64_t i = 0; i < count; ++i) {
    const int fd = first + static_cast<int>(i);
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) continue;  // not there
    if (!names[i].starts_with(prefix_)) continue;         // not ours to close
    ours.push_back({names[i].substr(prefix_.size()), Fd(fd)});
  }
  const std::lock_guard lock(mutex_);
  stored_ += ours.size();
  return ours;
}

Status SystemdStore::notify(const std::string& text, const Fd* file) {
  return send_packet(socket_, text, file);
}

Status SystemdStore::keep(const std::string& name, const Fd& file) {
  const std::lock_guard lock(mutex_);
  const uint64_t max = number(facts_.store_max);
  if (max > 0 && stored_ >= max) {
    return error(StatusCode::kResourceExhausted,
                 "systemd stores " + std::to_string(max) +
                     " descriptors for this unit: raise FileDescriptorStoreMax=");
  }
  TERRACE_RETURN_IF_ERROR(notify("FDSTORE=1\nFDPOLL=0\nFDNAME=" + prefix_ + name + "\n", &file));
  ++stored_;
  return ok_status();
}

void SystemdStore::forget(const std::string& name) {
  const std::lock_guard lock(mutex_);
  if (stored_ > 0) --stored_;
  (void)notify("FDSTOREREMOVE=1\nFDNAME=" + prefix_ + name + "\n", nullptr);
}
}  // namespace terrace
