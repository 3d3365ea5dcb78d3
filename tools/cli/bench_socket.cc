#include "tools/cli/bench_socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <deque>
#include <thread>

#include "base/limits.h"
#include "tools/cli/output.h"

namespace terrace {
namespace {
constexpr size_t kPieceBytes = kMiB;
constexpr int kPollMs = 100;

sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

StatusOr<Fd> dial(uint16_t port) {
  sockaddr_in address = loopback(port);
  Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket ||
      ::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    return errno_status(errno, "connect to 127.0.0.1:" + std::to_string(port));
  }
  return socket;
}

Status make_ready(const Fd& socket) {
  const int one = 1;
  if (::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0) {
    return ok_status();
  }
  return errno_status(errno, "TCP_NODELAY");
}

/// Which piece of its connection comes next, and how much of it went.
struct Position {
  uint64_t piece = 0;
  size_t done = 0;
  bool ended = false;
};

/// The same sequence on both ends: connection c carries every n-th piece of the memory.
size_t offset_of(uint64_t piece, size_t connection, size_t connections, size_t memory_bytes) {
  return ((piece * connections + connection) * kPieceBytes) % memory_bytes;
}

bool would_block() {
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/// Waits until one of the connections that go on is ready for `events`.
void wait_for_any(const std::vector<Fd>& sockets, const std::vector<Position>& positions,
                  short events) {
  std::vector<pollfd> polls;
  for (size_t i = 0; i < sockets.size(); ++i) {
    if (!positions[i].ended) polls.push_back({sockets[i].get(), events, 0});
  }
  ::poll(polls.data(), polls.size(), kPollMs);
}

/// Sleeps while the sender is more than a piece ahead of its rate.
class Pace {
 public:
  explicit Pace(double bytes_per_s_max) : rate_(bytes_per_s_max), begin_(clock_.now()) {}
  void sent(size_t bytes) { bytes_ += static_cast<double>(bytes); }
  void wait() const {
    if (rate_ <= 0) return;
    const double ahead =
        bytes_ - static_cast<double>(kPieceBytes) - rate_ * seconds_of(clock_.now() - begin_);
    if (ahead <= 0) return;
    const timespec pause{0, static_cast<long>(std::min(ahead / rate_, 0.1) * 1e9)};
    ::ppoll(nullptr, 0, &pause, nullptr);
  }

 private:
  const SystemClock clock_;
  const double rate_;
  const Nanos begin_;
  double bytes_ = 0;
};

/// Sends until `*stop`, then ends every connection at the end of its piece. Waits only when no
/// connection takes anything, or for its pace.
void send_pieces(const std::vector<Fd>& sockets, std::span<const std::byte> from,
                 double bytes_per_s_max, const std::atomic<bool>* stop) {
  std::vector<Position> positions(sockets.size());
  Pace pace(bytes_per_s_max);
  for (size_t open = sockets.size(); open > 0;) {
    pace.wait();
    bool moved = false;
    for (size_t i = 0; i < sockets.size(); ++i) {
      Position& at = positions[i];
      if (at.ended) continue;
      const size_t offset = offset_of(at.piece, i, sockets.size(), from.size());
      const ssize_t n = ::send(sockets[i].get(), from.data() + offset + at.done,
                               kPieceBytes - at.done, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n < 0 && would_block()) continue;
      moved = true;
      if (n > 0) {
        at.done += static_cast<size_t>(n);
        pace.sent(static_cast<size_t>(n));
      }
      if (at.done == kPieceBytes) at = {at.piece + 1, 0, false};
      if (n < 0 || (at.done == 0 && stop->load(std::memory_order_relaxed))) {
        ::shutdown(sockets[i].get(), SHUT_WR);
        at.ended = true;
        --open;
      }
    }
    if (!moved) wait_for_any(sockets, positions, POLLOUT);
  }
}

/// Receives until every connection ended; returns the bytes.
uint64_t receive_pieces(const std::vector<Fd>& sockets, std::span<std::byte> into,
                        Latencies* gaps) {
  const SystemClock clock;
  uint64_t total = 0;
  Nanos last = clock.now();
  std::vector<Position> positions(sockets.size());
  for (size_t open = sockets.size(); open > 0;) {
    bool moved = false;
    for (size_t i = 0; i < sockets.size(); ++i) {
      Position& at = positions[i];
      if (at.ended) continue;
      const size_t offset = offset_of(at.piece, i, sockets.size(), into.size());
      const ssize_t n = ::recv(sockets[i].get(), into.data() + offset + at.done,
                               kPieceBytes - at.done, MSG_DONTWAIT);
      if (n < 0 && would_block()) continue;
      moved = true;
      if (n <= 0) {
        at.ended = true;
        --open;
        continue;
      }
      total += static_cast<uint64_t>(n);
      at.done += static_cast<size_t>(n);
      if (at.done < kPieceBytes) continue;
      at = {at.piece + 1, 0, false};
      if (gaps == nullptr) continue;
      const Nanos now = clock.now();
      gaps->record(now - last);
      last = now;
    }
    if (!moved) wait_for_any(sockets, positions, POLLIN);
  }
  return total;
}

/// Moves exactly `bytes` in one direction over a non-blocking socket; false when it ended.
bool transfer(int fd, std::byte* memory, size_t bytes, bool out) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t n = out ? ::send(fd, memory + done, bytes - done, MSG_DONTWAIT | MSG_NOSIGNAL)
                          : ::recv(fd, memory + done, bytes - done, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && !would_block())) return false;
    if (n > 0) {
      done += static_cast<size_t>(n);
      continue;
    }
    pollfd poll{fd, static_cast<short>(out ? POLLOUT : POLLIN), 0};
    ::poll(&poll, 1, kPollMs);
  }
  return true;
}
}  // namespace

StatusOr<Fd> connect_to(uint16_t port) {
  TERRACE_ASSIGN_OR_RETURN(Fd socket, dial(port));
  TERRACE_RETURN_IF_ERROR(make_ready(socket));
  return socket;
}

StatusOr<SocketPairs> connect_pairs(uint32_t connections) {
  const Fd door(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = loopback(0);
  socklen_t length = sizeof(address);
  auto* const raw = reinterpret_cast<sockaddr*>(&address);
  if (!door || ::bind(door.get(), raw, sizeof(address)) != 0 || ::listen(door.get(), 64) != 0 ||
      ::getsockname(door.get(), raw, &length) != 0) {
    return errno_status(errno, "listen on loopback");
  }
  SocketPairs pairs;
  for (uint32_t i = 0; i < connections; ++i) {
    TERRACE_ASSIGN_OR_RETURN(Fd near, connect_to(ntohs(address.sin_port)));
    Fd far(::accept4(door.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!far) return errno_status(errno, "accept");
    TERRACE_RETURN_IF_ERROR(make_ready(far));
    pairs.left.push_back(std::move(near));
    pairs.right.push_back(std::move(far));
  }
  return pairs;
}

StatusOr<Figure> stream_over_sockets(const StreamOptions& options, std::span<const std::byte> from,
                                     std::span<std::byte> into) {
  if (from.size() != into.size() || from.size() % kPieceBytes != 0 || from.empty()) {
    return error(StatusCode::kInvalidArgument, "stream: want equal memories of whole MiB");
  }
  TERRACE_ASSIGN_OR_RETURN(SocketPairs pairs, connect_pairs(options.connections));
  const SystemClock clock;
  std::atomic<bool> stop{false};
  uint64_t bytes = 0;
  const Nanos begin = clock.now();
  const Nanos cpu = process_cpu_time();
  std::thread sender([&] { send_pieces(pairs.left, from, options.bytes_per_s_max, &stop); });
  std::thread receiver([&] { bytes = receive_pieces(pairs.right, into, options.piece_gaps); });
  // Only a clock: the two threads do all the work.
  for (Nanos left = options.duration; left.count() > 0;
       left = begin + options.duration - clock.now()) {
    ::poll(nullptr, 0, static_cast<int>(left.count() / 1'000'000) + 1);
  }
  stop = true;
  sender.join();
  receiver.join();
  const double gb = static_cast<double>(bytes) / 1e9;
  if (bytes == 0) return error(StatusCode::kUnavailable, "stream: nothing arrived");
  return Figure{.gb_per_s = gb / seconds_of(clock.now() - begin),
                .cpu_s_per_gb = seconds_of(process_cpu_time() - cpu) / gb};
}

StatusOr<PingPong> ping_pong_over_sockets(const PingPongOptions& options) {
  TERRACE_ASSIGN_OR_RETURN(SocketPairs pairs, connect_pairs(1));
  const SystemClock clock;
  PingPong result;
  std::thread answering([&] {
    std::vector<std::byte> request(options.request_bytes);
    std::vector<std::byte> reply(options.reply_bytes);
    const int fd = pairs.right.front().get();
    while (transfer(fd, request.data(), request.size(), false) &&
           transfer(fd, reply.data(), reply.size(), true)) {
    }
  });
  std::vector<std::byte> request(options.request_bytes);
  std::vector<std::byte> reply(options.reply_bytes);
  const int fd = pairs.left.front().get();
  std::deque<Nanos> sent;
  const Nanos begin = clock.now();
  const Nanos cpu = process_cpu_time();
  bool good = true;
  while (good && (clock.now() - begin < options.duration || !sent.empty())) {
    while (good && sent.size() < options.depth && clock.now() - begin < options.duration) {
      sent.push_back(clock.now());
      good = transfer(fd, request.data(), request.size(), true);
    }
    if (sent.empty()) break;
    good = good && transfer(fd, reply.data(), reply.size(), false);
    result.latencies.record(clock.now() - sent.front());
    sent.pop_front();
    ++result.round_trips;
  }
  result.seconds = seconds_of(clock.now() - begin);
  result.cpu_seconds = seconds_of(process_cpu_time() - cpu);
  ::shutdown(fd, SHUT_RDWR);
  answering.join();
  if (!good) return error(StatusCode::kUnavailable, "ping-pong: the connection ended");
  return result;
}
}  // namespace terrace
