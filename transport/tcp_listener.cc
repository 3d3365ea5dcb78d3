#include "transport/tcp_listener.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"

namespace terrace {
namespace {

constexpr int kBacklog = 1024;
}  // namespace

TcpListener::~TcpListener() {
  TERRACE_CHECK(drained());
}

StatusOr<uint16_t> TcpListener::listen(const SocketAddress& address) {
  TERRACE_ASSIGN_OR_RETURN(Fd fd, make_tcp_socket(address));
  const int one = 1;
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (::bind(fd.get(), address.get(), address.length) != 0) {
    return error(StatusCode::kUnavailable, errno_status(errno, "bind the data port").message());
  }
  if (::listen(fd.get(), kBacklog) != 0) {
    return error(StatusCode::kUnavailable, errno_status(errno, "listen").message());
  }
  TERRACE_ASSIGN_OR_RETURN(const uint16_t port, port_of(fd.get()));
  fd_ = std::move(fd);
  arm_accept();
  return port;
}

void TcpListener::arm_accept() {
  shared_->loop->accept(fd_.get(), &accept_);
}

void TcpListener::on_accepted(int32_t result) {
  if (closing_) {
    if (result >= 0) Fd(result).reset();
    host_->schedule_reap();
    return;
  }
  if (result >= 0) {
    Fd fd(result);
    shared_->metrics.accepted.add();
    if (strangers_.size() >= kStrangersMax) {
      shared_->metrics.closes[static_cast<size_t>(CloseReason::full)].add();
    } else {
      strangers_.push_back(
          {.connection = std::make_unique<TcpConnection>(shared_, std::move(fd), 0u, this)});
      strangers_.back().connection->receive(FrameLane::hello);
    }
  }
  // Out of descriptors or memory: asking again at once would spin.
  accept_paused_ =
      result == -EMFILE || result == -ENFILE || result == -ENOBUFS || result == -ENOMEM;
  if (!accept_paused_) arm_accept();
}

TcpListener::Stranger* TcpListener::find(const TcpConnection* connection) {
  const auto it = std::find_if(strangers_.begin(), strangers_.end(), [&](const Stranger& stranger) {
    return stranger.connection.get() == connection;
  });
  TERRACE_CHECK(it != strangers_.end());
  return &*it;
}

Status TcpListener::frame_begins(TcpConnection* connection, const FrameHeader&,
                                 std::span<const std::byte> body, std::vector<iovec>*) {
  TERRACE_ASSIGN_OR_RETURN(const Hello hello, decode_hello(body));
  if (hello.connections < 2) {
    return error(StatusCode::kInvalidArgument, "a session over TCP has at least 2 connections");
  }
  Stranger* stranger = find(connection);
  if (!host_->secret_known(hello.secret)) {
    turn_away(stranger, CloseReason::secret);
    return StatusCode::kUnauthenticated;
  }
  TERRACE_RETURN_IF_ERROR(host_->may_open(hello.secret));
  Group& group = groups_[hello.secret];
  if (group.members.empty()) group.members.resize(hello.connections);
  if (group.members.size() != hello.connections || group.members[hello.connection] != nullptr) {
    return error(StatusCode::kInvalidArgument, "a second connection of this number");
  }
  group.members[hello.connection] = connection;
  ++group.present;
  stranger->grouped = true;
  stranger->secret = hello.secret;
  connection->set_index(hello.connection);
  connection->set_lane(FrameLane::nothing);
  return ok_status();
}

/// Only now is this connection's hello out of its receiver's hands.
Status TcpListener::frame_ends(TcpConnection* connection, const FrameHeader&,
                               std::span<const std::byte>) {
  const SessionSecret secret = find(connection)->secret;
  const Group& group = groups_.at(secret);
  if (group.present == group.members.size()) host_->group_complete(secret, take_group(secret));
  return ok_status();
}

TcpListener::Connections TcpListener::take_group(const SessionSecret& secret) {
  Connections out;
  for (const TcpConnection* member : groups_.at(secret).members) {
    Stranger* stranger = find(member);
    out.push_back(std::move(stranger->connection));
    *stranger = std::move(strangers_.back());
    strangers_.pop_back();
  }
  groups_.erase(secret);
  return out;
}

void TcpListener::failed(TcpConnection* connection, CloseReason reason, Status) {
  Stranger* stranger = find(connection);
  if (stranger->closing) return;
  if (stranger->grouped) return break_group(stranger->secret, CloseReason::handshake);
  turn_away(stranger, reason);
}

void TcpListener::turn_away(Stranger* stranger, CloseReason reason) {
  if (std::exchange(stranger->closing, true)) return;
  shared_->metrics.closes[static_cast<size_t>(reason)].add();
  stranger->connection->begin_close();
  if (stranger->connection->idle()) host_->schedule_reap();
}

void TcpListener::break_group(const SessionSecret& secret, CloseReason reason) {
  const auto it = groups_.find(secret);
  if (it == groups_.end()) return;
  const Group group = std::move(it->second);
  groups_.erase(it);
  for (const TcpConnection* member : group.members) {
    if (member != nullptr) turn_away(find(member), reason);
  }
}

void TcpListener::closed(TcpConnection*) {
  host_->schedule_reap();
}

void TcpListener::reap() {
  std::erase_if(strangers_, [](const Stranger& stranger) {
    return stranger.closing && stranger.connection->idle();
  });
}

void TcpListener::tick(Nanos interval) {
  if (closing_) return;
  if (std::exchange(accept_paused_, false)) arm_accept();
  std::vector<SessionSecret> late;
  for (Stranger& stranger : strangers_) {
    if (++stranger.ticks * interval <= shared_->options.handshake_timeout) continue;
    if (stranger.grouped) {
      late.push_back(stranger.secret);
    } else {
      turn_away(&stranger, CloseReason::handshake);
    }
  }
  for (const SessionSecret& secret : late) break_group(secret, CloseReason::handshake);
}

void TcpListener::close() {
  if (std::exchange(closing_, true)) return;
  shared_->loop->cancel(&accept_);
  groups_.clear();
  for (Stranger& stranger : strangers_) turn_away(&stranger, CloseReason::asked);
}
}  // namespace terrace
