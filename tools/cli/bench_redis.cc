#include "tools/cli/bench_redis.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "tools/cli/bench_socket.h"
#include "tools/cli/output.h"

namespace terrace {
namespace {
constexpr int kPollMs = 1000;
constexpr milliseconds kStartTimeout{10'000};
constexpr seconds kReplyTimeout{10};

std::string key_of(size_t value) {
  return "v" + std::to_string(value);
}
std::string bulk(const std::string& word) {
  return "$" + std::to_string(word.size()) + "\r\n" + word + "\r\n";
}
bool would_block() {
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}
Status gone(const char* what) {
  return error(StatusCode::kUnavailable, std::string("redis: ") + what);
}

Status send_all(int fd, std::span<const std::byte> bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n =
        ::send(fd, bytes.data() + done, bytes.size() - done, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) {
      done += static_cast<size_t>(n);
      continue;
    }
    if (!would_block()) return gone("the connection ended while storing");
    pollfd poll{fd, POLLOUT, 0};
    if (::poll(&poll, 1, kPollMs * 10) == 0) return gone("does not take what is sent");
  }
  return ok_status();
}

Status send_text(int fd, const std::string& text) {
  return send_all(fd, std::as_bytes(std::span(text)));
}

Status read_reply(int fd, RespReader* reader) {
  while (!reader->done()) {
    const std::span<std::byte> room = reader->room();
    const ssize_t n = ::recv(fd, room.data(), room.size(), 0);
    if (n <= 0) return gone("the connection ended");
    TERRACE_RETURN_IF_ERROR(reader->received(static_cast<size_t>(n)));
  }
  return ok_status();
}
}  // namespace

StatusOr<RedisPeer> RedisPeer::start(const RedisOptions& options, std::span<std::byte> content) {
  if (content.empty() || content.size() % options.value_bytes != 0) {
    return error(StatusCode::kInvalidArgument, "redis: want whole values");
  }
  TERRACE_ASSIGN_OR_RETURN(const uint16_t port, free_port());
  RedisPeer peer(options);
  TERRACE_ASSIGN_OR_RETURN(
      peer.server_, ChildProcess::start({"redis-server", "--port", std::to_string(port), "--bind",
                                         "127.0.0.1", "--save", "", "--appendonly", "no",
                                         "--daemonize", "no", "--dir", "/tmp"}));
  TERRACE_RETURN_IF_ERROR(peer.connect(port));
  TERRACE_ASSIGN_OR_RETURN(HiredisClient hiredis, HiredisClient::connect(port));
  peer.hiredis_.emplace(std::move(hiredis));
  peer.values_ = content.size() / options.value_bytes;
  for (size_t i = 0; i < peer.values_; ++i) {
    TERRACE_RETURN_IF_ERROR(
        peer.store(&peer.connections_.front(), i,
                   content.subspan(i * options.value_bytes, options.value_bytes)));
  }
  return peer;
}

Status RedisPeer::connect(uint16_t port) {
  const SystemClock clock;
  const Nanos deadline = clock.now() + kStartTimeout;
  while (connections_.size() < options_.connections) {
    StatusOr<Fd> socket = connect_to(port);
    if (socket.ok()) {
      connections_.emplace_back();
      connections_.back().socket = std::move(*socket);
      continue;
    }
    if (!server_.running() && server_.wait() == 127) return gone("redis-server is not installed");
    if (server_.pid() < 0 || clock.now() > deadline) return gone("redis-server did not start");
    pause_for(milliseconds(20));
  }
  return ok_status();
}

Status RedisPeer::store(Connection* connection, size_t value, std::span<std::byte> bytes) {
  const int fd = connection->socket.get();
  TERRACE_RETURN_IF_ERROR(send_text(fd, "*3\r\n" + bulk("SET") + bulk(key_of(value)) + "$" +
                                            std::to_string(bytes.size()) + "\r\n"));
  TERRACE_RETURN_IF_ERROR(send_all(fd, bytes));
  TERRACE_RETURN_IF_ERROR(send_text(fd, "\r\n"));
  TERRACE_RETURN_IF_ERROR(connection->reader.start({}));
  return read_reply(fd, &connection->reader);
}

Status RedisPeer::ask(Connection* connection, size_t value) {
  connection->unsent += "*2\r\n" + bulk("GET") + bulk(key_of(value));
  connection->in_flight.push_back(value);
  return flush(connection);
}

Status RedisPeer::flush(Connection* connection) {
  const std::string& text = connection->unsent;
  while (connection->sent < text.size()) {
    const ssize_t n = ::send(connection->socket.get(), text.data() + connection->sent,
                             text.size() - connection->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) return would_block() ? ok_status() : gone("the connection ended");
    connection->sent += static_cast<size_t>(n);
  }
  connection->unsent.clear();
  connection->sent = 0;
  return ok_status();
}

Status RedisPeer::receive(Connection* connection, std::span<std::byte> into, uint64_t* values) {
  // One recv per turn, as in the raw ceiling.
  const std::span<std::byte> room = connection->reader.room();
  const ssize_t n = ::recv(connection->socket.get(), room.data(), room.size(), MSG_DONTWAIT);
  if (n < 0 && would_block()) return ok_status();
  if (n <= 0) return gone("the connection ended");
  TERRACE_RETURN_IF_ERROR(connection->reader.received(static_cast<size_t>(n)));
  while (connection->reader.done()) {
    ++*values;
    connection->in_flight.erase(connection->in_flight.begin());
    if (connection->in_flight.empty()) {
      connection->reading = false;
      break;
    }
    TERRACE_RETURN_IF_ERROR(connection->reader.start(
        into.subspan(connection->in_flight.front() * options_.value_bytes, options_.value_bytes)));
  }
  return ok_status();
}

StatusOr<Figure> RedisPeer::fetch_for(Nanos duration, std::span<std::byte> into) {
  if (into.size() < values_ * options_.value_bytes) {
    return error(StatusCode::kInvalidArgument, "redis: the destination is too small");
  }
  const SystemClock clock;
  const Nanos begin = clock.now();
  const Nanos cpu = process_cpu_time() + cpu_time_of(server_.pid());
  const size_t each = std::max<size_t>(1, options_.gets_in_flight / connections_.size());
  uint64_t received = 0;
  size_t next = 0;
  Nanos last_progress = begin;
  for (;;) {
    const bool more = clock.now() - begin < duration;
    std::vector<pollfd> polls;
    bool waiting = false;
    for (Connection& connection : connections_) {
      while (more && connection.in_flight.size() < each) {
        TERRACE_RETURN_IF_ERROR(ask(&connection, next++ % values_));
      }
      if (!connection.reading && !connection.in_flight.empty()) {
        connection.reading = true;
        TERRACE_RETURN_IF_ERROR(connection.reader.start(into.subspan(
            connection.in_flight.front() * options_.value_bytes, options_.value_bytes)));
      }
      waiting = waiting || !connection.in_flight.empty();
      const auto events = static_cast<short>(POLLIN | (connection.unsent.empty() ? 0 : POLLOUT));
      polls.push_back({connection.socket.get(), events, 0});
    }
    if (!waiting) break;
    ::poll(polls.data(), polls.size(), kPollMs);
    for (size_t i = 0; i < polls.size(); ++i) {
      if ((polls[i].revents & POLLOUT) != 0) TERRACE_RETURN_IF_ERROR(flush(&connections_[i]));
      if ((polls[i].revents & ~POLLOUT) == 0 || connections_[i].in_flight.empty()) continue;
      TERRACE_RETURN_IF_ERROR(receive(&connections_[i], into, &received));
      last_progress = clock.now();
    }
    if (clock.now() - last_progress > kReplyTimeout) return gone("no reply");
  }
  const double gb = static_cast<double>(received * options_.value_bytes) / 1e9;
  if (received == 0) return gone("nothing arrived");
  const Nanos used = process_cpu_time() + cpu_time_of(server_.pid()) - cpu;
  return Figure{.gb_per_s = gb / seconds_of(clock.now() - begin),
                .cpu_s_per_gb = seconds_of(used) / gb};
}

StatusOr<Figure> RedisPeer::fetch_by_hiredis(Nanos duration, std::span<std::byte> into) {
  if (into.size() < values_ * options_.value_bytes) {
    return error(StatusCode::kInvalidArgument, "redis: the destination is too small");
  }
  const Nanos cpu = process_cpu_time() + cpu_time_of(server_.pid());
  Nanos elapsed{0};
  TERRACE_ASSIGN_OR_RETURN(
      const uint64_t bytes,
      hiredis_->fetch({values_, options_.value_bytes, options_.gets_in_flight, duration}, into,
                      &elapsed));
  const Nanos used = process_cpu_time() + cpu_time_of(server_.pid()) - cpu;
  const double gb = static_cast<double>(bytes) / 1e9;
  return Figure{.gb_per_s = ratio_of(gb, seconds_of(elapsed)),
                .cpu_s_per_gb = ratio_of(seconds_of(used), gb)};
}
}  // namespace terrace
