// Goal: a socket that breaks after any byte, in either direction, ends every operation once, lets
// nothing be written afterwards, and costs nobody but its own session.
// Method: a relay between the two that passes bytes and descriptors on, and hangs up after exactly
// so many; one session for every byte of a run that does a bit of everything.
#include <fcntl.h>
#include <sys/socket.h>

#include <cstring>

#include "base/crc32c.h"
#include "tests/contract/shm_fixture.h"

namespace terrace {
namespace {

enum class Way : uint8_t { to_node, to_engine };

/// Listens in the node's place. Never blocks; pump() does what can be done.
class Relay {
 public:
  Relay(const std::string& name, const std::string& node)
      : listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)), node_(node) {
    const SocketAddress at = *parse_unix_address(name);
    EXPECT_EQ(::bind(listener_.get(), at.get(), at.length), 0);
    EXPECT_EQ(::listen(listener_.get(), 4), 0);
  }
  /// The next session breaks after `bytes` that way.
  void cut(Way way, uint64_t bytes) {
    for (Direction& direction : directions_) direction = {};
    directions_[static_cast<size_t>(way)].left = bytes;
  }
  uint64_t passed(Way way) const { return directions_[static_cast<size_t>(way)].passed; }
  void pump() {
    if (Fd caller{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)}; caller) {
      engine_ = std::move(caller);
      node_side_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
      const SocketAddress to = *parse_unix_address(node_);
      EXPECT_EQ(::connect(node_side_.get(), to.get(), to.length), 0);
    }
    if (!engine_) return;
    if (pass(engine_, node_side_, &directions_[0]) && pass(node_side_, engine_, &directions_[1])) {
      return;
    }
    engine_.reset();
    node_side_.reset();
  }

 private:
  struct Direction {
    uint64_t left = ~uint64_t{0};
    uint64_t passed = 0;
  };
  /// False when the session is over.
  static bool pass(const Fd& from, const Fd& to, Direction* direction) {
    if (direction->left == 0) return false;
    std::byte bytes[4096];
    alignas(cmsghdr) std::byte control[CMSG_SPACE(8 * sizeof(int))];
    iovec piece{bytes, std::min<uint64_t>(sizeof(bytes), direction->left)};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t got = ::recvmsg(from.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
    if (got == 0) return false;
    piece.iov_len = static_cast<size_t>(got);
    const ssize_t sent = ::sendmsg(to.get(), &message, MSG_NOSIGNAL);
    close_all(&message);
    direction->left -= static_cast<uint64_t>(got);
    direction->passed += static_cast<uint64_t>(got);
    return sent == got;  // a few hundred bytes always fit
  }
  static void close_all(msghdr* message) {
    for (cmsghdr* head = CMSG_FIRSTHDR(message); head != nullptr;
         head = CMSG_NXTHDR(message, head)) {
      for (size_t i = 0; i < (head->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
        int raw = -1;
        std::memcpy(&raw, CMSG_DATA(head) + i * sizeof(int), sizeof(int));
        const Fd closed(raw);
      }
    }
  }

  const Fd listener_;
  const std::string node_;
  Fd engine_, node_side_;
  Direction directions_[2];
};

class ShmResetTest : public ShmFixture {
 protected:
  static constexpr uint64_t kBytes = 40'000;
  static constexpr uint64_t kLent = 0, kBounced = 1;  // tags

  void SetUp() override {
    start({});
    Prng(3).fill(exporter.memory());
    Prng(4).fill(own_);
    relay_name_ = name + "-relay";
    relay_ = std::make_unique<Relay>(relay_name_, name);
    region_ = register_at_engine(memory_);
  }
  bool turn(const std::function<bool()>& there) {
    return turn_until([&] {
      relay_->pump();
      return there();
    });
  }
  /// Of a session that was cut off early: none.
  bool open() {
    CountingOp connected;
    std::array<std::byte, 16> secret{};
    secret[0] = std::byte{1};
    node.peer = {};
    const auto peer = client->connect(relay_name_, listening_user, secret,
                                      engine.loop->now() + seconds(5), &connected);
    EXPECT_TRUE(peer.ok());
    EXPECT_TRUE(turn([&] { return connected.runs == 1; }));
    if (!connected.result.ok()) return false;
    engine.peer = *peer;
    EXPECT_TRUE(turn([&] { return node.peer != PeerId{}; })) << "the node said hello_ok";
    return true;
  }
  uint32_t sum() const { return crc32c(memory_); }

  /// What is lent and what is not to the engine, bytes from it, messages both ways.
  void session() {
    std::fill(memory_.begin(), memory_.end(), std::byte{0x5A});
    const int closes_before = engine.closes + node.closes;
    engine.writes.clear();
    if (!open()) return;
    uint32_t at_close = 0;
    engine.on_close = [&] { at_close = sum(); };
    CountingOp lent, bounced, read;
    std::vector<std::byte> from_engine(kBytes);
    const auto start_of = [&](CountingOp* op, const Status& status) {
      if (!status.ok()) op->done(status);  // the node has heard of the end already
    };
    start_of(&lent, give(kLent, exporter.memory().first(kBytes), &lent));
    start_of(&bounced, give(kBounced, own_, &bounced));
    const RemoteSpan source{region_, 2 * kBytes, kBytes};
    const iovec into{from_engine.data(), kBytes};
    start_of(&read, server->read(node.peer, {.tag = 2, .sources = {&source, 1}, .into = {&into, 1}},
                                 &read));
    const std::vector<std::byte> hello(100, std::byte{7});
    (void)client->send_message(engine.peer, {.kind = 1, .tag = 2, .body = hello});
    (void)server->send_message(node.peer, {.kind = 2, .tag = 3, .body = hello});
    ASSERT_TRUE(turn([&] { return lent.runs + bounced.runs + read.runs == 3; }));
    (void)server->send_message(node.peer, {.kind = 2, .tag = 4, .body = hello});
    const bool whole = lent.result.ok() && bounced.result.ok() && read.result.ok();
    if (!whole) {
      ASSERT_TRUE(turn([&] { return engine.closes + node.closes >= closes_before + 2; }));
      for (int i = 0; i < 20; ++i) turn([] { return true; });
      ASSERT_EQ(sum(), at_close) << "written after the session's end";
    }
    ASSERT_EQ(lent.runs, 1);
    ASSERT_EQ(bounced.runs, 1);
    ASSERT_EQ(read.runs, 1);
    expect_bytes(kLent, exporter.memory().first(kBytes));
    expect_bytes(kBounced, own_);
    if (read.result.ok()) {
      ASSERT_TRUE(std::all_of(from_engine.begin(), from_engine.end(),
                              [](std::byte b) { return b == std::byte{0x5A}; }));
    }
    server->close_peer(node.peer, StatusCode::kCancelled);
    client->close_peer(engine.peer, StatusCode::kCancelled);
    ASSERT_TRUE(turn(
        [&] { return server->metrics().peers.get() == 0 && client->metrics().peers.get() == 0; }));
    engine.on_close = nullptr;
  }
  Status give(uint64_t tag, std::span<std::byte> bytes, Op* op) {
    const RemoteSpan target{region_, tag * kBytes, kBytes};
    const iovec piece{bytes.data(), bytes.size()};
    return server->write(
        node.peer, {.tag = tag, .body = {}, .targets = {&target, 1}, .from = {&piece, 1}}, op);
  }
  void expect_bytes(uint64_t tag, std::span<const std::byte> wanted) {
    const auto got = std::span(memory_).subspan(tag * kBytes, kBytes);
    const bool told = engine.writes[tag] == 1;
    ASSERT_TRUE(!told || std::equal(got.begin(), got.end(), wanted.begin()));
    // Whole, or not begun, or any part of it: but each byte is one of the two.
    for (uint64_t i = 0; i < kBytes; ++i) {
      ASSERT_TRUE(got[i] == wanted[i] || got[i] == std::byte{0x5A}) << i;
    }
  }

  std::vector<std::byte> memory_ = std::vector<std::byte>(3 * kBytes);
  std::vector<std::byte> own_ = std::vector<std::byte>(kBytes);
  std::string relay_name_;
  std::unique_ptr<Relay> relay_;
  RegionId region_{};
};

TEST_F(ShmResetTest, AtEveryByte) {
  relay_->cut(Way::to_node, ~uint64_t{0});
  session();
  if (HasFatalFailure()) return;
  const uint64_t bytes[] = {relay_->passed(Way::to_node), relay_->passed(Way::to_engine)};
  ASSERT_GT(bytes[0], 300u);
  ASSERT_GT(bytes[1], 300u);
  for (const Way way : {Way::to_node, Way::to_engine}) {
    for (uint64_t at = 0; at < bytes[static_cast<size_t>(way)]; ++at) {
      SCOPED_TRACE("cut after byte " + std::to_string(at) +
                   (way == Way::to_node ? " to the node" : " to the engine"));
      relay_->cut(way, at);
      session();
      if (HasFatalFailure()) return;
    }
  }
  relay_->cut(Way::to_node, ~uint64_t{0});
  session();
  EXPECT_EQ(engine.writes[kLent] + engine.writes[kBounced], 2) << "a whole session, after all that";
}
}  // namespace
}  // namespace terrace
