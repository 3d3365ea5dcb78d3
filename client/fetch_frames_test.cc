// Goal: a fetch that completed touches the engine's memory no more, however its node counts the
// frames it sent. Method: a node of plain blocking sockets, which leaves a frame half sent.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <map>
#include <thread>

#include "base/crc32c.h"
#include "base/handle.h"
#include "base/limits.h"
#include "client/control_channel.h"
#include "client/sdk_fixture.h"
#include "proto/data.pb.h"
#include "proto/message_kind.h"
#include "transport/wire_format.h"

namespace terrace {
namespace {

/// The node's end of one session: connection 0 has messages, the others data.
class HalfwayNode {
 public:
  HalfwayNode() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    socklen_t length = sizeof(address);
    TERRACE_CHECK(::bind(listener_.get(), any, length) == 0);
    TERRACE_CHECK(::listen(listener_.get(), 16) == 0);
    TERRACE_CHECK(::getsockname(listener_.get(), any, &length) == 0);
    address_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }
  const std::string& address() const { return address_; }
  void accept(uint32_t connections) {
    for (uint32_t i = 0; i < connections; ++i) {
      Fd fd(::accept(listener_.get(), nullptr, nullptr));
      std::vector<std::byte> body;
      next_of(fd.get(), &body);
      lines_[decode_hello(body)->connection] = std::move(fd);
    }
    for (uint32_t i = 0; i < connections; ++i) send(i, {.type = FrameType::hello_ok}, {});
  }
  FrameHeader next_message() {
    std::vector<std::byte> body;
    return next_of(lines_[0].get(), &body);
  }
  void send(uint32_t line, const FrameHeader& header, std::span<const std::byte> body) {
    send(line, encode(header));
    send(line, body);
  }
  void send(uint32_t line, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(lines_[line].get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      TERRACE_CHECK(n > 0);
      bytes = bytes.subspan(static_cast<size_t>(n));
    }
  }

 private:
  static void receive(int fd, std::span<std::byte> into) {
    while (!into.empty()) {
      const ssize_t n = ::recv(fd, into.data(), into.size(), 0);
      TERRACE_CHECK(n > 0);
      into = into.subspan(static_cast<size_t>(n));
    }
  }
  static FrameHeader next_of(int fd, std::vector<std::byte>* body) {
    FrameHeaderBytes bytes;
    receive(fd, bytes);
    const FrameHeader header = *decode_header(bytes);
    body->resize(header.body_bytes);
    receive(fd, *body);
    return header;
  }
  const Fd listener_;
  std::string address_;
  std::map<uint32_t, Fd> lines_;
};

class ControlOfOne final : public ControlChannel {
 public:
  explicit ControlOfOne(std::string address) : address_(std::move(address)) {}
  StatusOr<SessionOffer> open_session(const std::string&, Nanos) override {
    SessionOffer offer;
    offer.data_address = address_;
    offer.node = {"halfway", "0", 1};
    return offer;
  }
  StatusOr<uint32_t> open_namespace(const SessionSecret&, const std::string&, const std::string&,
                                    Nanos) override {
    return uint32_t{1};
  }
  StatusOr<std::string> open_rdma(const SessionSecret&, const std::string&, Nanos) override {
    return error(StatusCode::kUnavailable, "no RDMA");
  }
  void shut_down() override {}

 private:
  const std::string address_;
};

class FetchFramesTest : public SdkFixture {
 protected:
  static constexpr uint64_t kBig = 512 * kKiB;
  static constexpr uint64_t kBegun = 300 * kKiB;  // so much wakes a receiver in any case
  static constexpr uint64_t kSmall = 100;
  static constexpr uint64_t kSmallAt = 768 * kKiB;

  void SetUp() override {
    memory_.assign(1 << 20, kGuard);
    ClientConfig config;
    config.data_connections = 2;
    std::vector<std::unique_ptr<ControlChannel>> controls;
    controls.push_back(std::make_unique<ControlOfOne>(node_.address()));
    std::thread accepting([this] { node_.accept(3); });
    auto client = Client::open(config, std::move(controls));
    accepting.join();
    ASSERT_TRUE(client.ok()) << client.status().to_string();
    use_client(*std::move(client));
  }
  void TearDown() override { client_.reset(); }  // before the memory

  /// Of object 0 and of object 1, which is small.
  OpId fetch_both() {
    const Fragment big{0, region_, 0, kBig};
    const Fragment small{0, region_, kSmallAt, kSmall};
    return *client_->fetch(ns_, std::array{item(0, big), item(1, small)}, {});
  }
  static FetchItem item(uint64_t number, const Fragment& whole) {
    FetchItem item;
    item.key = key_of(number);
    item.fragments = {&whole, 1};
    return item;
  }
  /// The frame for item `index`, which is object `number`, with the first `count` of its bytes.
  void send_frame(uint32_t line, uint64_t tag, uint32_t index, uint64_t number, uint64_t offset,
                  uint64_t bytes, uint64_t count) {
    const std::vector<std::byte> payload = content(number, bytes);
    Delivery delivery{index, 0, 0, 0, static_cast<uint32_t>(bytes), Tier::dram, {}};
    for (uint64_t at = 0; at < bytes; at += kCrcUnitBytes) {
      const auto unit =
          std::span(payload).subspan(at, std::min<uint64_t>(kCrcUnitBytes, bytes - at));
      delivery.crcs.push_back(
          unit_crc(key_of(number), 0, static_cast<uint32_t>(at / kCrcUnitBytes), unit));
    }
    const std::string upper = pack_deliveries({&delivery, 1});
    const RemoteSpan target{region_, offset, bytes};
    std::vector<std::byte> body(kRemoteSpanBytes);
    encode({&target, 1}, body);
    const auto said = std::as_bytes(std::span(upper.data(), upper.size()));
    body.insert(body.end(), said.begin(), said.end());
    node_.send(line,
               {.type = FrameType::write,
                .kind = 1,
                .tag = tag,
                .body_bytes = static_cast<uint32_t>(body.size()),
                .payload_bytes = static_cast<uint32_t>(bytes)},
               body);
    node_.send(line, std::span(payload).first(count));
  }
  void send_reply(uint64_t tag, size_t items, uint64_t frames, StatusCode outcome) {
    proto::FetchReply reply;
    reply.mutable_outcome()->set_code(static_cast<int32_t>(outcome));
    reply.set_codes(std::string(items, '\0'));
    reply.set_frames(frames);
    const std::string body = reply.SerializeAsString();
    send_message(MessageKind::fetch_reply, tag, body);
  }
  void send_message(MessageKind kind, uint64_t tag, const std::string& body) {
    node_.send(0,
               {.type = FrameType::message,
                .kind = static_cast<uint16_t>(kind),
                .tag = tag,
                .body_bytes = static_cast<uint32_t>(body.size())},
               std::as_bytes(std::span(body.data(), body.size())));
  }
  /// A lookup and its answer: then the client has seen all messages before.
  void until_heard() {
    const OpId op = *client_->lookup(ns_, std::vector{key_of(1)}, {});
    proto::LookupReply reply;
    pack_info({}, reply.mutable_infos());
    send_message(MessageKind::lookup_reply, node_.next_message().tag, reply.SerializeAsString());
    EXPECT_TRUE(client_->wait(op, std::chrono::seconds(15)).ok());
  }
  /// Waits until the first byte of the big frame is in memory: then it was let in.
  void until_begun() const {
    const auto first = static_cast<unsigned char>(content(0, kBig)[0]);
    const auto* at = reinterpret_cast<const unsigned char*>(memory_.data());
    while (__atomic_load_n(at, __ATOMIC_ACQUIRE) != first) std::this_thread::yield();
  }
  HalfwayNode node_;
};

TEST_F(FetchFramesTest, AFrameThatTheReplyDoesNotCountEndsBeforeTheFetchDoes) {
  for (const StatusCode outcome : {StatusCode::kOk, StatusCode::kDeadlineExceeded}) {
    SCOPED_TRACE(name_of(outcome));
    std::fill(memory_.begin(), memory_.end(), kGuard);
    const OpId op = fetch_both();
    const uint64_t tag = node_.next_message().tag;
    send_frame(1, tag, 0, 0, 0, kBig, kBegun);
    until_begun();
    send_frame(2, tag, 1, 1, kSmallAt, kSmall, kSmall);
    send_reply(tag, 2, 1, outcome);
    const Completion done = finish(op);
    const bool cut_short = outcome != StatusCode::kOk;
    EXPECT_EQ(done.status.code(), cut_short ? outcome : StatusCode::kInternal);
    EXPECT_NE(done.key_codes.at(0), StatusCode::kOk);
    EXPECT_EQ(node_.next_message().kind, static_cast<uint16_t>(MessageKind::cancel_request));
    // The memory is the engine's again. What comes now has nowhere to go.
    std::fill(memory_.begin(), memory_.end(), kGuard);
    const std::vector<std::byte> late = content(0, kBig);
    node_.send(1, std::span(late).subspan(kBegun));
    // A second fetch over the same connection: when it is whole, all of that was taken.
    const Fragment small{0, region_, kSmallAt, kSmall};
    const OpId next = *client_->fetch(ns_, std::array{item(1, small)}, {});
    const uint64_t next_tag = node_.next_message().tag;
    send_frame(1, next_tag, 0, 1, kSmallAt, kSmall, kSmall);
    send_reply(next_tag, 1, 1, StatusCode::kOk);
    EXPECT_TRUE(finish(next).status.ok());
    EXPECT_TRUE(guarded(0, kBig)) << "bytes were written after the fetch completed";
  }
}

TEST_F(FetchFramesTest, AFrameBehindTheCountIsRefused) {
  const OpId op = fetch_both();
  const uint64_t tag = node_.next_message().tag;
  send_reply(tag, 2, 1, StatusCode::kOk);
  until_heard();
  send_frame(1, tag, 0, 0, 0, kBig, kBegun);
  until_begun();
  send_frame(2, tag, 1, 1, kSmallAt, kSmall, kSmall);
  EXPECT_EQ(finish(op).status.code(), StatusCode::kInternal);
  EXPECT_TRUE(guarded(kSmallAt, kSmallAt + kSmall));
}
}  // namespace
}  // namespace terrace
