// Goal: what a TCP peer can do wrong ends that peer with a clear reason and nobody else;
// handshakes, stalls and half-made sessions end by our own timers. Method: raw sockets that send
// hand-made bytes to a listening transport, beside an honest peer that must still be served
// afterwards; small timeouts.
#include "transport/tcp_transport.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <functional>

#include "base/handle.h"
#include "base/limits.h"
#include "base/prng.h"
#include "transport/tcp_address.h"
#include "transport/wire_format.h"

namespace terrace {
namespace {

using Secret = std::array<std::byte, 16>;

Secret secret(int n) {
  Secret out{};
  out[0] = static_cast<std::byte>(n);
  return out;
}

struct TestOp final : Op {
  void done(Status status) override {
    ++runs;
    result = std::move(status);
  }
  int runs = 0;
  Status result;
};

struct Recorder final : TransportHandler {
  void on_peer(PeerId id, std::span<const std::byte, 16>) override { peers.push_back(id); }
  void on_message(PeerId, const Message&) override { ++messages; }
  bool accept_write(PeerId, const IncomingWrite&, std::vector<uint32_t>*) override { return true; }
  void on_write(PeerId, const IncomingWrite&) override { ++writes; }
  Status accept_read(PeerId, uint64_t, std::span<const RemoteSpan>) override { return {}; }
  void on_peer_closed(PeerId, const Status& why) override { closed.push_back(why); }
  std::vector<PeerId> peers;
  std::vector<Status> closed;
  int messages = 0;
  int writes = 0;
};

class TcpTransportTest : public testing::Test {
 protected:
  void SetUp() override {
    loop = *Loop::create({}, &clock);
    start({.handshake_timeout = milliseconds(200),
           .send_stall_timeout = milliseconds(200),
           .receive_stall_timeout = milliseconds(200)});
  }
  void start(const TcpOptions& options) {
    server = std::make_unique<TcpTransport>(loop.get(), &handler, options);
    client = std::make_unique<TcpTransport>(loop.get(), &client_handler, options);
    const StatusOr<uint16_t> bound = server->listen(
        "127.0.0.1:0", [](std::span<const std::byte, 16> s) { return s[0] != std::byte{99}; });
    ASSERT_TRUE(bound.ok());
    port = *bound;
    ASSERT_TRUE(server->register_region(memory).ok());  // region 1
  }
  void TearDown() override {
    TestOp a;
    TestOp b;
    server->close(&a);
    client->close(&b);
    ASSERT_TRUE(turn_until([&] { return a.runs == 1 && b.runs == 1; }));
    EXPECT_EQ(server->metrics().connections.get(), 0u);
    EXPECT_EQ(server->metrics().queued_bytes.get(), 0u);
  }
  bool turn_until(const std::function<bool()>& there, Nanos limit = seconds(10)) {
    for (const Nanos end = clock.now() + limit; clock.now() < end && !there();) {
      loop->turn(milliseconds(1));
    }
    return there();
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(port); }
  Fd raw_socket() {
    const StatusOr<SocketAddress> to = parse_address(address());
    Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), to->get(), to->length), 0);
    return fd;
  }
  static void put(const Fd& fd, std::span<const std::byte> bytes) {
    (void)::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  static void put(const Fd& fd, const FrameHeader& header) { put(fd, encode(header)); }
  static void put_hello(const Fd& fd, int who, uint32_t connection, uint32_t connections) {
    put(fd, FrameHeader{.type = FrameType::hello, .body_bytes = kHelloBytes});
    put(fd,
        encode(Hello{.secret = secret(who), .connection = connection, .connections = connections}));
  }
  static bool is_closed(const Fd& fd) {
    std::byte drop[256];
    ssize_t n = 0;
    while ((n = ::recv(fd.get(), drop, sizeof(drop), MSG_DONTWAIT)) > 0) {
    }
    return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
  }
  /// A session by hand: [0] messages, [1] data.
  std::vector<Fd> raw_session(int who) {
    std::vector<Fd> out;
    const size_t before = handler.peers.size();
    for (uint32_t i = 0; i < 2; ++i) {
      out.push_back(raw_socket());
      put_hello(out[i], who, i, 2);
    }
    EXPECT_TRUE(turn_until([&] { return handler.peers.size() == before + 1; }));
    return out;
  }
  PeerId honest_peer() {
    TestOp connected;
    const StatusOr<PeerId> peer =
        client->connect(address(), secret(1), 3, loop->now() + seconds(5), &connected);
    EXPECT_TRUE(peer.ok());
    EXPECT_TRUE(turn_until([&] { return connected.runs == 1; }));
    EXPECT_TRUE(connected.result.ok()) << connected.result.to_string();
    return *peer;
  }
  void expect_served(PeerId peer) {
    std::vector<std::byte> bytes(kMiB, std::byte{3});
    const RemoteSpan target{RegionId{1}, 0, kMiB};
    const iovec from{bytes.data(), bytes.size()};
    TestOp op;
    const int before = handler.writes;
    ASSERT_TRUE(
        client
            ->write(peer, {.tag = 1, .body = {}, .targets = {&target, 1}, .from = {&from, 1}}, &op)
            .ok());
    EXPECT_TRUE(turn_until([&] { return op.runs == 1 && handler.writes == before + 1; }));
    EXPECT_EQ(memory[kMiB - 1], std::byte{3});
  }

  SystemClock clock;
  std::unique_ptr<Loop> loop;
  Recorder handler;
  Recorder client_handler;
  std::unique_ptr<TcpTransport> server;
  std::unique_ptr<TcpTransport> client;
  uint16_t port = 0;
  std::vector<std::byte> memory = std::vector<std::byte>(kMiB);
};

TEST_F(TcpTransportTest, AWrongSecretIsClosedAndNothingElseIsParsed) {
  const Fd wrong = raw_socket();
  put_hello(wrong, 99, 0, 2);
  const Fd early = raw_socket();
  put(early, FrameHeader{.type = FrameType::message});
  const Fd noise = raw_socket();
  put(noise, std::vector<std::byte>(4096, std::byte{'G'}));
  EXPECT_TRUE(turn_until([&] { return is_closed(wrong) && is_closed(early) && is_closed(noise); }));
  EXPECT_TRUE(handler.peers.empty());
  EXPECT_EQ(handler.messages, 0);
  const auto& closes = server->metrics().closes;
  EXPECT_EQ(closes[static_cast<size_t>(CloseReason::secret)].get(), 1u);
  EXPECT_EQ(closes[static_cast<size_t>(CloseReason::bad_frame)].get(), 2u);
}

TEST_F(TcpTransportTest, SilentAndHalfMadeSessionsTimeOut) {
  const Fd silent = raw_socket();
  const Fd half = raw_socket();
  put_hello(half, 2, 0, 2);
  const Fd slow = raw_socket();
  put(slow, std::vector<std::byte>(10));
  EXPECT_TRUE(turn_until([&] { return is_closed(silent) && is_closed(half) && is_closed(slow); }));
  EXPECT_TRUE(handler.peers.empty());
  raw_session(2);  // the secret may still be used
}

TEST_F(TcpTransportTest, FramesBeforeTheSessionIsCompleteEndIt) {
  const Fd first = raw_socket();
  put_hello(first, 2, 0, 2);
  put(first, FrameHeader{.type = FrameType::message});
  const Fd twice = raw_socket();
  EXPECT_TRUE(turn_until([&] { return is_closed(first); }));
  put_hello(twice, 3, 1, 2);
  const Fd again = raw_socket();
  put_hello(again, 3, 1, 2);
  EXPECT_TRUE(turn_until([&] { return is_closed(again); }, milliseconds(150)));
  EXPECT_TRUE(handler.peers.empty());
}

struct Hostile {
  const char* name;
  size_t connection;
  FrameHeader header;
  std::vector<RemoteSpan> spans;
};

TEST_F(TcpTransportTest, HostileFramesEndTheirSenderOnly) {
  using enum FrameType;
  const auto spans = [](uint16_t n) { return static_cast<uint32_t>(n * kRemoteSpanBytes); };
  const PeerId honest = honest_peer();
  const std::vector<Hostile> cases{
      {"4 GiB body", 0, {.type = message, .body_bytes = 0xFFFFFFFF}, {}},
      {"4 GiB payload", 1, {.type = write, .payload_bytes = 0xFFFFFFFF}, {}},
      {"data on the message lane", 0, {.type = write}, {}},
      {"message on the data lane", 1, {.type = message}, {}},
      {"second hello", 1, {.type = hello, .body_bytes = kHelloBytes}, {}},
      {"past the region",
       1,
       {.type = write, .kind = 1, .body_bytes = spans(1), .payload_bytes = 8},
       {{RegionId{1}, kMiB - 4, 8}}},
      {"no such region",
       1,
       {.type = write, .kind = 1, .body_bytes = spans(1), .payload_bytes = 8},
       {{RegionId{9}, 0, 8}}},
      {"offset overflow",
       1,
       {.type = write, .kind = 1, .body_bytes = spans(1), .payload_bytes = 8},
       {{RegionId{1}, UINT64_MAX - 2, 8}}},
      {"spans over payload",
       1,
       {.type = write, .kind = 2, .body_bytes = spans(2), .payload_bytes = 8},
       {{RegionId{1}, 0, 8}, {RegionId{1}, 8, 8}}},
      {"read past the region",
       1,
       {.type = read, .kind = 1, .body_bytes = spans(1), .immediate = 8},
       {{RegionId{1}, kMiB, 8}}},
      {"answer to no read", 1, {.type = read_data, .payload_bytes = 8}, {}},
      {"refusal of no read", 1, {.type = read_error, .immediate = 5}, {}},
  };
  int who = 10;
  for (const Hostile& hostile : cases) {
    SCOPED_TRACE(hostile.name);
    const size_t closed = handler.closed.size();
    const std::vector<Fd> session = raw_session(who++);
    put(session[hostile.connection], hostile.header);
    std::vector<std::byte> body(hostile.spans.size() * kRemoteSpanBytes);
    encode(hostile.spans, body);
    put(session[hostile.connection], body);
    put(session[hostile.connection], std::vector<std::byte>(64));
    EXPECT_TRUE(turn_until([&] { return is_closed(session[0]) && is_closed(session[1]); }));
    ASSERT_TRUE(turn_until([&] { return handler.closed.size() == closed + 1; }));
    EXPECT_FALSE(handler.closed.back().message().empty());
    expect_served(honest);
  }
  EXPECT_EQ(handler.messages, 0);
}

TEST_F(TcpTransportTest, AnotherVersionIsNamed) {
  const std::vector<Fd> session = raw_session(2);
  FrameHeaderBytes bytes = encode(FrameHeader{.type = FrameType::message});
  bytes[4] = std::byte{7};
  put(session[0], bytes);
  ASSERT_TRUE(turn_until([&] { return handler.closed.size() == 1; }));
  EXPECT_EQ(handler.closed[0].code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(handler.closed[0].message().find('7'), std::string::npos);
}

TEST_F(TcpTransportTest, ATruncatedFrameTimesOutAndAnHonestIdlePeerDoesNot) {
  const PeerId honest = honest_peer();
  const std::vector<Fd> session = raw_session(2);
  const RemoteSpan span{RegionId{1}, 0, 1000};
  std::vector<std::byte> body(kRemoteSpanBytes);
  encode({&span, 1}, body);
  put(session[1],
      FrameHeader{.type = FrameType::write, .kind = 1, .body_bytes = 24, .payload_bytes = 1000});
  put(session[1], body);
  put(session[1], std::vector<std::byte>(500));
  ASSERT_TRUE(turn_until([&] { return handler.closed.size() == 1; }));
  EXPECT_TRUE(is_closed(session[0]));
  EXPECT_EQ(server->metrics().closes[static_cast<size_t>(CloseReason::stalled)].get(), 1u);
  EXPECT_TRUE(server->metrics().peers.get() == 1);
  expect_served(honest);
}

TEST_F(TcpTransportTest, APeerThatStopsReadingIsClosedByOurTimer) {
  const std::vector<Fd> session = raw_session(2);
  const PeerId peer = handler.peers.back();
  std::vector<std::byte> bytes(kMiB);
  const RemoteSpan target{RegionId{1}, 0, kMiB};
  const iovec from{bytes.data(), bytes.size()};
  std::vector<std::unique_ptr<TestOp>> ops;
  for (int i = 0; i < 60; ++i) {
    ops.push_back(std::make_unique<TestOp>());
    ASSERT_TRUE(server
                    ->write(peer,
                            {.tag = 1, .body = {}, .targets = {&target, 1}, .from = {&from, 1}},
                            ops.back().get())
                    .ok());
  }
  ASSERT_TRUE(turn_until([&] { return handler.closed.size() == 1; }));
  int unavailable = 0;
  for (const auto& op : ops) {
    EXPECT_EQ(op->runs, 1);
    unavailable += op->result.code() == StatusCode::kUnavailable;
  }
  EXPECT_GT(unavailable, 0);
  EXPECT_EQ(server->metrics().closes[static_cast<size_t>(CloseReason::stalled)].get(), 1u);
}

TEST_F(TcpTransportTest, TooManyReadsEndTheirSender) {
  const std::vector<Fd> session = raw_session(2);
  const RemoteSpan span{RegionId{1}, 0, kMiB};
  std::vector<std::byte> body(kRemoteSpanBytes);
  encode({&span, 1}, body);
  for (int i = 0; i < 600; ++i) {
    put(session[1],
        FrameHeader{.type = FrameType::read, .kind = 1, .body_bytes = 24, .immediate = kMiB});
    put(session[1], body);
  }
  ASSERT_TRUE(turn_until([&] { return handler.closed.size() == 1; }));
  EXPECT_EQ(handler.closed[0].code(), StatusCode::kResourceExhausted);
}

TEST_F(TcpTransportTest, ConnectFailsCleanly) {
  TestOp op;
  EXPECT_EQ(client->connect("nowhere", secret(1), 2, loop->now(), &op).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(client->connect(address(), secret(1), 1, loop->now(), &op).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(op.runs, 0);
  // Nobody answers: a listening socket without an accept.
  Fd mute(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const StatusOr<SocketAddress> any = parse_address("127.0.0.1:0");
  ASSERT_EQ(::bind(mute.get(), any->get(), any->length), 0);
  ASSERT_EQ(::listen(mute.get(), 8), 0);
  const std::string there = "127.0.0.1:" + std::to_string(*port_of(mute.get()));
  ASSERT_TRUE(client->connect(there, secret(1), 2, loop->now() + milliseconds(50), &op).ok());
  ASSERT_TRUE(turn_until([&] { return op.runs == 1; }));
  EXPECT_EQ(op.result.code(), StatusCode::kDeadlineExceeded);
  mute.reset();
  TestOp refused;
  ASSERT_TRUE(client->connect(there, secret(1), 2, loop->now() + seconds(5), &refused).ok());
  ASSERT_TRUE(turn_until([&] { return refused.runs == 1; }));
  EXPECT_EQ(refused.result.code(), StatusCode::kUnavailable);
  TestOp wrong;
  ASSERT_TRUE(client->connect(address(), secret(99), 2, loop->now() + seconds(5), &wrong).ok());
  ASSERT_TRUE(turn_until([&] { return wrong.runs == 1; }));
  EXPECT_EQ(wrong.result.code(), StatusCode::kUnavailable);
  EXPECT_TRUE(client_handler.closed.empty());
}
}  // namespace
}  // namespace terrace
