#include "tests/s3/fault_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/prng.h"

namespace terrace {
namespace {

constexpr size_t kRequestMax = size_t{64} << 20;
constexpr int kPollMs = 50;

/// A socket that closes itself.
class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  int fd() const { return fd_; }
  /// So that the other side sees a reset, not an end.
  void abort() const {
    const linger now{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  }

 private:
  const int fd_;
};

sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = ::htons(port);
  address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  return address;
}

bool send_all(int fd, const std::string& bytes) {
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t put = ::send(fd, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
    if (put <= 0) return false;
    at += static_cast<size_t>(put);
  }
  return true;
}

/// Where the value of a header begins and ends; npos: there is none.
std::pair<size_t, size_t> header_at(const std::string& text, const std::string& name) {
  const size_t end = text.find("\r\n\r\n");
  std::string lower = text.substr(0, end);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const size_t at = lower.find("\r\n" + name + ": ");
  if (at == std::string::npos) return {at, at};
  const size_t value = at + name.size() + 4;
  return {value, std::min(lower.find("\r\n", value), lower.size())};
}

size_t length_of(const std::string& head) {
  const auto [begin, end] = header_at(head, "content-length");
  return begin == std::string::npos ? 0 : std::stoul(head.substr(begin, end - begin));
}

void set_length(std::string* answer, int64_t by) {
  const auto [begin, end] = header_at(*answer, "content-length");
  if (begin == std::string::npos) return;
  const auto length = static_cast<int64_t>(length_of(*answer));
  answer->replace(begin, end - begin, std::to_string(std::max<int64_t>(0, length + by)));
}

std::string page(int status, const std::string& type, const std::string& body) {
  return "HTTP/1.1 " + std::to_string(status) + " No\r\nContent-Type: " + type +
         "\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
         body;
}

/// What becomes of the server's answer.
std::string damaged(Fault fault, std::string answer, Prng* chance) {
  const size_t body = std::min(answer.find("\r\n\r\n") + 4, answer.size());
  const size_t bytes = answer.size() - body;
  if (fault == Fault::cut) answer.resize(bytes > 0 ? body + bytes / 2 : body / 2);
  if (fault == Fault::flip && bytes > 0) {
    answer[body + chance->below(bytes)] ^= static_cast<char>(1 << chance->below(8));
  }
  if (fault == Fault::garbage_body) {
    for (size_t i = body; i < answer.size(); ++i) answer[i] = static_cast<char>(chance->next());
  }
  if (fault == Fault::garbage_head) {
    for (char& c : answer) c = static_cast<char>(chance->next());
  }
  if (fault == Fault::too_short) set_length(&answer, -1);
  if (fault == Fault::too_long) set_length(&answer, 7);
  if (fault == Fault::wrong_etag) {
    const auto [begin, end] = header_at(answer, "etag");
    if (begin != std::string::npos) answer.replace(begin, end - begin, "\"0123456789abcdef\"");
  }
  if (fault == Fault::wrong_range) {
    const auto [begin, end] = header_at(answer, "content-range");
    if (begin != std::string::npos) answer.replace(begin, end - begin, "bytes 1-2/3");
  }
  return answer;
}
}  // namespace

struct FaultProxy::Shared {
  uint16_t server = 0;
  uint16_t port = 0;
  int listener = -1;
  std::atomic<bool> stopped{false};
  std::atomic<uint64_t> requests{0};
  std::mutex mutex;
  Choose choose;  // guarded by mutex, as what follows
  Prng chance{1};
  std::vector<std::thread> threads;
  std::thread acceptor;

  bool wait_readable(int fd) const {
    pollfd watched{fd, POLLIN, 0};
    while (!stopped) {
      if (::poll(&watched, 1, kPollMs) > 0) return true;
    }
    return false;
  }
  /// False: the other side is gone.
  bool read_more(int fd, std::string* into) const {
    std::array<char, 65536> part{};
    if (!wait_readable(fd)) return false;
    const ssize_t got = ::recv(fd, part.data(), part.size(), 0);
    if (got <= 0) return false;
    into->append(part.data(), static_cast<size_t>(got));
    return true;
  }
  std::string read_request(int fd) const {
    std::string text;
    size_t head = std::string::npos;
    while ((head = text.find("\r\n\r\n")) == std::string::npos) {
      if (!read_more(fd, &text) || text.size() > kRequestMax) return "";
    }
    const size_t whole = head + 4 + length_of(text);
    while (text.size() < whole) {
      if (!read_more(fd, &text) || text.size() > kRequestMax) return "";
    }
    // One exchange for each connection, so that an answer ends where the connection does.
    text.insert(text.find("\r\n") + 2, "Connection: close\r\n");
    return text;
  }
  std::string answer_to(const std::string& request) const {
    const Socket to(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = loopback(server);
    std::string answer;
    if (::connect(to.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
        send_all(to.fd(), request)) {
      while (read_more(to.fd(), &answer)) {
      }
    }
    return answer;
  }
  void serve(int fd) {
    const Socket from(fd);
    const std::string request = read_request(fd);
    if (request.empty()) return;
    ++requests;
    Fault fault = Fault::none;
    Prng mine(0);
    {
      const std::lock_guard lock(mutex);
      fault = choose(request.substr(0, request.find("\r\n")));
      mine = Prng(chance.next());
    }
    if (fault == Fault::reset) return from.abort();
    if (fault == Fault::hang) {
      std::string ignored;
      while (read_more(fd, &ignored)) {
      }
      return;
    }
    if (fault == Fault::slow_down) {
      (void)send_all(fd, page(503, "application/xml", "<Error><Code>SlowDown</Code></Error>"));
      return;
    }
    if (fault == Fault::error_page) {
      (void)send_all(fd, page(502, "text/html", "<html><b>bad gateway</html>"));
      return;
    }
    const std::string answer = answer_to(request);
    if (fault == Fault::lost || answer.empty()) return from.abort();
    (void)send_all(fd, damaged(fault, answer, &mine));
  }
  void accept_all() {
    while (wait_readable(listener)) {
      const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) continue;
      const std::lock_guard lock(mutex);
      threads.emplace_back([this, fd] { serve(fd); });
    }
  }
};

FaultProxy::FaultProxy(const std::string& server, Choose choose)
    : shared_(std::make_shared<Shared>()) {
  shared_->server = static_cast<uint16_t>(std::stoul(server.substr(server.rfind(':') + 1)));
  shared_->choose = std::move(choose);
  shared_->listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof(address);
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  TERRACE_CHECK(::bind(shared_->listener, any, size) == 0);
  TERRACE_CHECK(::listen(shared_->listener, 64) == 0);
  TERRACE_CHECK(::getsockname(shared_->listener, any, &size) == 0);
  shared_->port = ::ntohs(address.sin_port);
  shared_->acceptor = std::thread([shared = shared_.get()] { shared->accept_all(); });
}

FaultProxy::~FaultProxy() {
  shared_->stopped = true;
  shared_->acceptor.join();
  for (std::thread& each : shared_->threads) each.join();
  ::close(shared_->listener);
}

std::string FaultProxy::url() const {
  return "http://127.0.0.1:" + std::to_string(shared_->port);
}

uint64_t FaultProxy::requests() const {
  return shared_->requests;
}

void FaultProxy::choose(Choose choose) {
  const std::lock_guard lock(shared_->mutex);
  shared_->choose = std::move(choose);
}
}  // namespace terrace
