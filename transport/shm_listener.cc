#include "transport/shm_listener.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace terrace {
namespace {

constexpr int kBacklog = 256;
constexpr mode_t kAnybody = 0666;  // a secret, not the path, is what lets a caller in

/// Nobody answers on it: a dead process left it behind.
bool is_dead(const SocketAddress& address) {
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return probe && ::connect(probe.get(), address.get(), address.length) != 0 &&
         errno == ECONNREFUSED;
}

Status cannot_listen(const std::string& name, int why) {
  return error(StatusCode::kUnavailable,
               errno_status(why, "listening on the socket \"" + name + "\"").message());
}
}  // namespace

ShmListener::~ShmListener() {
  TERRACE_CHECK(drained());
}

Status ShmListener::listen(const std::string& name,
                           std::function<bool(std::span<const std::byte, 16>)> secret_known) {
  TERRACE_ASSIGN_OR_RETURN(const SocketAddress address, parse_unix_address(name));
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return cannot_listen(name, errno);
  const bool is_path = name.front() != '@';
  if (is_path && is_dead(address)) (void)::unlink(name.c_str());
  if (::bind(fd.get(), address.get(), address.length) != 0) return cannot_listen(name, errno);
  if (is_path && ::chmod(name.c_str(), kAnybody) != 0) return cannot_listen(name, errno);
  if (::listen(fd.get(), kBacklog) != 0) return cannot_listen(name, errno);
  if (is_path) path_ = name;
  fd_ = std::move(fd);
  secret_known_ = std::move(secret_known);
  arm_accept();
  return ok_status();
}

Status ShmListener::check_user(const ShmLink& link) const {
  TERRACE_ASSIGN_OR_RETURN(const uid_t user, link.peer_user());
  if (user != ::geteuid() || shared_->options.same_user_allowed) return ok_status();
  return error(StatusCode::kPermissionDenied,
               "a client of the node's own user (uid " + std::to_string(user) +
                   ") could write to what is lent to be read; run them as different users");
}

void ShmListener::on_accepted(int32_t result) {
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
      auto link = std::make_unique<ShmLink>(shared_->loop, std::move(fd), false, this);
      strangers_.push_back({.link = std::move(link), .since = shared_->loop->now()});
      strangers_.back().link->receive(FrameLane::hello);
    }
  }
  // Out of descriptors or memory: asking again at once would spin.
  accept_paused_ =
      result == -EMFILE || result == -ENFILE || result == -ENOBUFS || result == -ENOMEM;
  if (!accept_paused_) arm_accept();
}

ShmListener::Stranger* ShmListener::find(const ShmLink* link) {
  const auto it = std::find_if(strangers_.begin(), strangers_.end(),
                               [link](const Stranger& s) { return s.link.get() == link; });
  TERRACE_CHECK(it != strangers_.end());
  return &*it;
}

Status ShmListener::frame_arrived(ShmLink* link, const FrameHeader&,
                                  std::span<const std::byte> body) {
  TERRACE_ASSIGN_OR_RETURN(const Hello hello, decode_hello(body));
  if (hello.connections != 1) {
    return error(StatusCode::kInvalidArgument, "a session over shared memory has one link");
  }
  Stranger* stranger = find(link);
  if (const Status user = check_user(*link); !user.ok()) {
    spdlog::warn("event=shm_refused error=\"{}\"", user.to_string());
    return user;
  }
  if (!secret_known_(hello.secret)) {
    turn_away(stranger, CloseReason::secret);
    return StatusCode::kUnauthenticated;
  }
  stranger->known = true;
  stranger->secret = hello.secret;
  link->set_lane(FrameLane::paused);
  host_->schedule_reap();
  return ok_status();
}

void ShmListener::failed(ShmLink* link, CloseReason reason, Status) {
  turn_away(find(link), reason);
}

void ShmListener::turn_away(Stranger* stranger, CloseReason reason) {
  if (std::exchange(stranger->closing, true)) return;
  shared_->metrics.closes[static_cast<size_t>(reason)].add();
  stranger->link->begin_close();
  if (stranger->link->idle()) host_->schedule_reap();
}

void ShmListener::closed(ShmLink*) {
  host_->schedule_reap();
}

void ShmListener::reap() {
  for (Stranger& stranger : strangers_) {
    if (!stranger.known || stranger.closing) continue;
    const Status taken = host_->link_complete(stranger.secret, &stranger.link);
    if (!taken.ok()) turn_away(&stranger, CloseReason::full);
  }
  std::erase_if(strangers_, [](const Stranger& stranger) {
    return stranger.link == nullptr || (stranger.closing && stranger.link->idle());
  });
}

void ShmListener::tick() {
  if (closing_) return;
  if (std::exchange(accept_paused_, false)) arm_accept();
  const Nanos oldest = shared_->loop->now() - shared_->options.handshake_timeout;
  for (Stranger& stranger : strangers_) {
    if (stranger.since < oldest) turn_away(&stranger, CloseReason::handshake);
  }
}

void ShmListener::close() {
  if (std::exchange(closing_, true)) return;
  shared_->loop->cancel(&accept_);
  if (!path_.empty()) (void)::unlink(path_.c_str());
  for (Stranger& stranger : strangers_) turn_away(&stranger, CloseReason::asked);
}
}  // namespace terrace
