#include "server/node/keeper_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "base/handle.h"
#include "server/node/fd_packet.h"
#include "server/node/keeper_protocol.h"
#include "transport/shm_link.h"

namespace terrace {
namespace {

constexpr size_t kConnectionsMax = 4;  // a node, and one that is about to follow it
constexpr int kBacklog = 4;
constexpr uint32_t kLingerMax = 7 * 24 * 3600;

struct Kept {
  std::string name;
  Fd file;
};

struct Connection {
  Fd socket;
  bool said_hello = false;
};

KeeperReply refuse(StatusCode code, std::string why) {
  return {code, std::move(why)};
}
}  // namespace

void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

struct Keeper::Core {
  KeeperOptions options;
  Fd listener;
  std::vector<Connection> connections;
  std::vector<Kept> kept;  // in the order in which it came
  bool served = false;     // a node was connected once
  Nanos alone_since{0};
  SystemClock clock;

  /// Who did not say hello is nobody: it neither ends a keeper nor has it live on.
  bool has_node() const {
    return std::any_of(connections.begin(), connections.end(),
                       [](const Connection& each) { return each.said_hello; });
  }
  bool over() const;
  int wait_ms() const;
  void accept();
  bool answer(Connection* connection);
  KeeperReply carry_out(Connection* connection, const KeeperRequest& request, Fd file,
                        const Fd** attached);
  KeeperReply keep(const std::string& name, Fd file);
  KeeperReply hello(const KeeperRequest& request, Connection* connection);
};

Keeper::Keeper(std::unique_ptr<Core> core) : core_(std::move(core)) {}
Keeper::Keeper(Keeper&&) noexcept = default;
Keeper::~Keeper() = default;

StatusOr<Keeper> Keeper::listen(const KeeperOptions& options) {
  auto core = std::make_unique<Core>();
  core->options = options;
  core->alone_since = core->clock.now();
  TERRACE_ASSIGN_OR_RETURN(const SocketAddress address, parse_unix_address(options.socket));
  core->listener = Fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!core->listener) return errno_status(errno, "a socket for " + options.socket);
  // Who starts a keeper holds the data directory's lock: what lies there is of one that is gone.
  (void)::unlink(options.socket.c_str());
  const mode_t before = ::umask(0177);  // the socket is its user's alone
  const int bound = ::bind(core->listener.get(), address.get(), address.length);
  const int why = errno;
  (void)::umask(before);
  if (bound != 0) return errno_status(why, "bind " + options.socket);
  if (::listen(core->listener.get(), kBacklog) != 0) {
    return errno_status(errno, "listen " + options.socket);
  }
  return Keeper(std::move(core));
}

bool Keeper::Core::over() const {
  if (has_node()) return false;
  if (served && kept.empty()) return true;
  return clock.now() - alone_since >= options.linger;
}

int Keeper::Core::wait_ms() const {
  if (has_node()) return -1;
  const Nanos left = alone_since + options.linger - clock.now();
  const auto ms = std::chrono::duration_cast<milliseconds>(left).count() + 1;
  return static_cast<int>(std::clamp<int64_t>(ms, 0, 1'000'000'000));
}

void Keeper::serve(int stop) {
  Core& core = *core_;
  while (!core.over()) {
    std::vector<pollfd> wanted = {{stop, POLLIN, 0}, {core.listener.get(), POLLIN, 0}};
    for (const Connection& connection : core.connections) {
      wanted.push_back({connection.socket.get(), POLLIN, 0});
    }
    if (::poll(wanted.data(), wanted.size(), core.wait_ms()) < 0 && errno != EINTR) break;
    if (wanted[0].revents != 0) break;
    for (size_t i = core.connections.size(); i > 0; --i) {
      if (wanted[i + 1].revents == 0 || core.answer(&core.connections[i - 1])) continue;
      if (core.connections[i - 1].said_hello) core.alone_since = core.clock.now();
      core.connections.erase(core.connections.begin() + static_cast<ptrdiff_t>(i - 1));
    }
    if (wanted[1].revents != 0) core.accept();
  }
  (void)::unlink(core.options.socket.c_str());
}

void Keeper::Core::accept() {
  Fd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket || !check_peer_is_us(socket).ok()) return;
  if (connections.size() >= kConnectionsMax) {  // a silent one makes room for one that may speak
    const auto silent = std::find_if(connections.begin(), connections.end(),
                                     [](const Connection& each) { return !each.said_hello; });
    if (silent == connections.end()) return;
    connections.erase(silent);
  }
  connections.push_back({std::move(socket), false});
}

/// False: the connection is over.
bool Keeper::Core::answer(Connection* connection) {
  StatusOr<FdPacket> packet = receive_packet(connection->socket, kKeeperPacketBytesMax);
  if (!packet.ok()) return false;
  const StatusOr<KeeperRequest> request = decode_keeper_request(packet->bytes);
  const Fd* attached = nullptr;
  const KeeperReply reply =
      request.ok() ? carry_out(connection, *request, std::move(packet->file), &attached)
                   : refuse(StatusCode::kInvalidArgument, request.status().message());
  return send_packet(connection->socket, encode(reply), attached).ok() && connection->said_hello;
}

KeeperReply Keeper::Core::hello(const KeeperRequest& request, Connection* connection) {
  if (request.owner != options.owner) {
    return refuse(StatusCode::kFailedPrecondition,
                  "this keeper serves data directory " + keeper_owner_text(options.owner));
  }
  options.linger = seconds(std::min(request.linger_s, kLingerMax));
  connection->said_hello = true;
  served = true;
  return {};
}

KeeperReply Keeper::Core::keep(const std::string& name, Fd file) {
  struct stat facts {};
  if (!file || ::fstat(file.get(), &facts) != 0 || !S_ISREG(facts.st_mode)) {
    return refuse(StatusCode::kInvalidArgument, "no file came with the name");
  }
  const bool known =
      std::any_of(kept.begin(), kept.end(), [&](const Kept& each) { return each.name == name; });
  if (known) return refuse(StatusCode::kAlreadyExists, name + " is kept already");
  if (kept.size() >= kKeptFilesMax) {
    return refuse(StatusCode::kResourceExhausted, "65536 files are kept, the limit");
  }
  kept.push_back({name, std::move(file)});
  return {};
}

KeeperReply Keeper::Core::carry_out(Connection* connection, const KeeperRequest& request, Fd file,
                                    const Fd** attached) {
  if (request.verb == KeeperVerb::hello) return hello(request, connection);
  if (!connection->said_hello) {
    return refuse(StatusCode::kFailedPrecondition, "hello was not said");
  }
  switch (request.verb) {
    case KeeperVerb::keep:
      return keep(request.name, std::move(file));
    case KeeperVerb::forget:
      std::erase_if(kept, [&](const Kept& each) { return each.name == request.name; });
      return {};
    case KeeperVerb::take:
      if (request.index >= kept.size()) return refuse(StatusCode::kNotFound, "");
      *attached = &kept[request.index].file;
      return {StatusCode::kOk, kept[request.index].name};
    default:
      kept.clear();
      return {};
  }
}

namespace {

bool owner_of(const std::string& text, std::array<std::byte, 16>* owner) {
  if (text.size() != 2 * owner->size()) return false;
  for (size_t i = 0; i < owner->size(); ++i) {
    uint8_t value = 0;
    const char* const digits = text.data() + 2 * i;
    if (std::from_chars(digits, digits + 2, value, 16).ptr != digits + 2) return false;
    (*owner)[i] = std::byte{value};
  }
  return true;
}

int fail(const std::string& why) {
  std::fprintf(stderr, "terraced --keeper: %s\n", why.c_str());
  return 1;
}
}  // namespace

std::string keeper_owner_text(const std::array<std::byte, 16>& owner) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : owner) {
    text += kDigits[std::to_integer<size_t>(byte >> 4)];
    text += kDigits[std::to_integer<size_t>(byte & std::byte{15})];
  }
  return text;
}

int run_keeper_program(int count, const char* const* words) {
  KeeperOptions options;
  uint32_t linger_s = 0;
  if (count != 3 || !owner_of(words[1], &options.owner)) return fail("SOCKET OWNER_HEX LINGER_S");
  const char* const end = words[2] + std::strlen(words[2]);
  if (std::from_chars(words[2], end, linger_s).ptr != end) return fail("LINGER_S is no number");
  options.socket = words[0];
  options.linger = seconds(std::min(linger_s, kLingerMax));
  raise_descriptor_limit();
  auto keeper = Keeper::listen(options);
  if (!keeper.ok()) return fail(keeper.status().to_string());
  const pid_t server = ::fork();
  if (server < 0) return fail("fork: " + std::string(std::strerror(errno)));
  if (server > 0) return 0;  // it listens already: whoever waits for us may connect
  (void)::setsid();
  (void)::chdir("/");
  const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    (void)::dup2(null.get(), standard);  // a reader of our node's output must see its end
  }
  sigset_t ends;
  ::sigemptyset(&ends);
  for (const int each : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&ends, each);
  (void)::sigprocmask(SIG_BLOCK, &ends, nullptr);
  const Fd stop(::signalfd(-1, &ends, SFD_CLOEXEC));
  keeper->serve(stop.get());
  return 0;
}
}  // namespace terrace
