// tests/contract/shm_fixture.h - for tests: a node and an engine over shared memory, on loops
// turned by hand, and a file that the node lends. Single-threaded.
#pragma once
#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/limits.h"
#include "base/memory_file.h"
#include "tests/contract/transport_pair.h"
#include "transport/shm_transport.h"

namespace terrace {

inline constexpr uint64_t kFileBytes = 4 * kMiB;
inline constexpr uint64_t kFileOffset = 8192;  // as a slab's data lies behind its header
inline constexpr uint64_t kFileNumber = 5;

class LentFile final : public ShmExporter {
 public:
  LentFile() : file_(*make_memory_file("exported", kFileOffset + kFileBytes)) {
    mapping_ = *ShmMapping::map(file_, {kFileOffset, kFileBytes}, true);
  }
  std::optional<ShmPiece> locate(PeerId peer, std::span<const std::byte> memory) override {
    const std::byte* const begin = mapping_.memory().data();
    if (peer == stranger || memory.data() < begin || memory.data() >= begin + kFileBytes) {
      return std::nullopt;
    }
    return ShmPiece{kFileNumber, static_cast<uint64_t>(memory.data() - begin), memory.size()};
  }
  StatusOr<File> open(uint64_t file) override {
    EXPECT_EQ(file, kFileNumber);
    TERRACE_ASSIGN_OR_RETURN(Fd descriptor, reopen_read_only(file_));
    return File{std::move(descriptor), {kFileOffset, kFileBytes}};
  }
  std::span<std::byte> memory() { return mapping_.memory(); }
  PeerId stranger{};

 private:
  Fd file_;
  ShmMapping mapping_;
};

class ShmFixture : public testing::Test {
 protected:
  void SetUp() override { start({}); }
  void start(ShmOptions options) {
    static int sockets = 0;
    options.same_user_allowed = allow_same_user;
    options.handshake_timeout = milliseconds(200);
    name = "@terrace-shm-test-" + std::to_string(::getpid()) + "-" + std::to_string(++sockets);
    server = std::make_unique<ShmTransport>(node.loop.get(), &node, options, &exporter);
    client = std::make_unique<ShmTransport>(engine.loop.get(), &engine, options, nullptr);
    ASSERT_TRUE(
        server->listen(name, [](std::span<const std::byte, 16> s) { return s[0] != std::byte{99}; })
            .ok());
  }
  void restart(const ShmOptions& options) {
    TearDown();
    start(options);
  }
  void TearDown() override {
    CountingOp a;
    CountingOp b;
    server->close(&a);
    client->close(&b);
    ASSERT_TRUE(turn_until([&] { return a.runs == 1 && b.runs == 1; }));
    EXPECT_EQ(server->metrics().peers.get() + client->metrics().peers.get(), 0u);
    EXPECT_EQ(server->metrics().area_bytes.get() + client->metrics().area_bytes.get(), 0u);
    server.reset();
    client.reset();
  }
  bool turn_until(const std::function<bool()>& there, bool both = true) {
    for (const Nanos end = clock.now() + seconds(10); clock.now() < end && !there();) {
      node.loop->turn(microseconds(100));
      if (both) engine.loop->turn(microseconds(100));
    }
    return there();
  }
  Status connect(int who = 1) {
    std::array<std::byte, 16> secret{};
    secret[0] = static_cast<std::byte>(who);
    CountingOp connected;
    const auto peer =
        client->connect(name, listening_user, secret, engine.loop->now() + seconds(5), &connected);
    if (!peer.ok()) return peer.status();
    const PeerId before = node.peer;
    EXPECT_TRUE(turn_until([&] { return connected.runs == 1; }));
    if (!connected.result.ok()) return connected.result;
    engine.peer = *peer;
    EXPECT_TRUE(turn_until([&] { return node.peer != before; }));
    return ok_status();
  }
  Status write(ShmTransport* from, PeerId to, std::span<std::byte> bytes, const RemoteSpan& target,
               Op* op) {
    const iovec piece{bytes.data(), bytes.size()};
    return from->write(to, {.tag = 1, .body = {}, .targets = {&target, 1}, .from = {&piece, 1}},
                       op);
  }
  RegionId register_at_engine(std::span<std::byte> memory) {
    const StatusOr<RegionId> region = client->register_region(memory);
    engine.regions[*region] = memory;
    return *region;
  }
  Fd raw_link(int who) {
    Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const StatusOr<SocketAddress> to = parse_unix_address(name);
    EXPECT_EQ(::connect(fd.get(), to->get(), to->length), 0);
    Hello hello{.secret = {}, .connection = 0, .connections = 1};
    hello.secret[0] = static_cast<std::byte>(who);
    put(fd, {.type = FrameType::hello, .body_bytes = kHelloBytes}, encode(hello));
    return fd;
  }
  static void put(const Fd& fd, const FrameHeader& header, std::span<const std::byte> body = {}) {
    const FrameHeaderBytes head = encode(header);
    (void)::send(fd.get(), head.data(), head.size(), MSG_NOSIGNAL);
    (void)::send(fd.get(), body.data(), body.size(), MSG_NOSIGNAL);
  }
  static bool is_closed(const Fd& fd) {
    std::byte drop[4096];
    ssize_t n = 0;
    while ((n = ::recv(fd.get(), drop, sizeof(drop), MSG_DONTWAIT)) > 0) {
    }
    return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
  }
  uint64_t closes(CloseReason reason) const {
    return server->metrics().closes[static_cast<size_t>(reason)].get();
  }

  SystemClock clock;
  Side node{&clock};
  Side engine{&clock};
  LentFile exporter;
  bool allow_same_user = true;
  uid_t listening_user = ::geteuid();
  std::string name;
  std::unique_ptr<ShmTransport> server;
  std::unique_ptr<ShmTransport> client;
};
}  // namespace terrace
