// Goal: what is lent is read where it lies, only by whom it was lent to, and never written; what a
// peer can do wrong ends that peer with a clear reason and nobody else.
// Method: two transports on loops turned by hand; an exporter over a memory file; raw sockets that
// send hand-made frames beside an honest peer.
#include "transport/shm_transport.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <numeric>

#include "tests/contract/shm_fixture.h"

namespace terrace {
namespace {

class ShmTransportTest : public ShmFixture {};

TEST_F(ShmTransportTest, WhatIsLentIsCopiedFromWhereItLies) {
  ASSERT_TRUE(connect().ok());
  Prng prng(1);
  prng.fill(exporter.memory());
  std::vector<std::byte> into(kMiB);
  const RegionId region = register_at_engine(into);
  CountingOp op;
  const auto from = exporter.memory().subspan(12'345, kMiB);
  ASSERT_TRUE(write(server.get(), node.peer, from, {region, 0, kMiB}, &op).ok());
  for (int i = 0; i < 20; ++i) node.loop->turn(Nanos(0));
  EXPECT_EQ(op.runs, 0) << "the memory is not free before the peer has copied it";
  ASSERT_TRUE(turn_until([&] { return op.runs == 1 && engine.writes[1] == 1; }));
  EXPECT_TRUE(op.result.ok());
  EXPECT_TRUE(std::equal(into.begin(), into.end(), from.begin()));
  EXPECT_EQ(engine.summed, 1u) << "the sums come with the copy";
  EXPECT_EQ(server->metrics().bytes_bounced.get(), 0u);
  EXPECT_EQ(server->metrics().files_shared.get(), 1u);
  EXPECT_EQ(client->metrics().files_mapped.get(), 1u);
}

TEST_F(ShmTransportTest, WhatIsNotForAPeerGoesThroughItsArea) {
  ASSERT_TRUE(connect().ok());
  exporter.stranger = node.peer;
  std::vector<std::byte> into(kMiB);
  const RegionId region = register_at_engine(into);
  std::fill(exporter.memory().begin(), exporter.memory().end(), std::byte{3});
  CountingOp op;
  ASSERT_TRUE(
      write(server.get(), node.peer, exporter.memory().first(kMiB), {region, 0, kMiB}, &op).ok());
  ASSERT_TRUE(turn_until([&] { return op.runs == 1 && engine.writes[1] == 1; }));
  EXPECT_TRUE(std::all_of(into.begin(), into.end(), [](std::byte b) { return b == std::byte{3}; }));
  EXPECT_EQ(server->metrics().bytes_bounced.get(), kMiB);
  EXPECT_EQ(server->metrics().files_shared.get(), 0u);
  const iovec piece{exporter.memory().data(), 10};
  EXPECT_FALSE(server->lend(node.peer, {&piece, 1}).has_value());
}

TEST_F(ShmTransportTest, ALentFileCannotBeWrittenAndOutlivesItsRetraction) {
  ASSERT_TRUE(connect().ok());
  exporter.memory()[100] = std::byte{42};
  const iovec piece{exporter.memory().data() + 100, 10};
  const auto pieces = server->lend(node.peer, {&piece, 1});
  ASSERT_TRUE(pieces.has_value());
  ASSERT_TRUE(turn_until([&] { return client->metrics().files_mapped.get() == 1; }));
  const std::shared_ptr<const ShmMapping> mapping = client->mapping(engine.peer, kFileNumber);
  ASSERT_NE(mapping, nullptr);
  EXPECT_EQ(mapping->at((*pieces)[0].offset, 1)[0], std::byte{42});
  EXPECT_NE(::mprotect(mapping->memory().data(), kMiB, PROT_READ | PROT_WRITE), 0);
  EXPECT_TRUE(mapping->at(kFileBytes - 1, 2).empty());
  server->retract(kFileNumber);
  ASSERT_TRUE(turn_until([&] { return client->metrics().files_mapped.get() == 0; }));
  EXPECT_EQ(client->mapping(engine.peer, kFileNumber), nullptr);
  EXPECT_EQ(mapping->at((*pieces)[0].offset, 1)[0], std::byte{42});
}

TEST_F(ShmTransportTest, ACancelledLoanComesBackOrThePeerGoes) {
  restart({.release_timeout = milliseconds(100)});
  ASSERT_TRUE(connect().ok());
  std::vector<std::byte> into(kMiB, std::byte{0xA5});
  const RegionId region = register_at_engine(into);
  CountingOp asked;
  const auto from = exporter.memory().first(kMiB);
  ASSERT_TRUE(write(server.get(), node.peer, from, {region, 0, kMiB}, &asked).ok());
  node.loop->turn(Nanos(0));
  server->cancel(&asked);
  ASSERT_TRUE(turn_until([&] { return asked.runs == 1; }));
  if (asked.result.code() == StatusCode::kCancelled) {
    EXPECT_EQ(std::count(into.begin(), into.end(), std::byte{0xA5}), static_cast<long>(kMiB));
  }
  // The same, and the peer is frozen.
  CountingOp lost;
  ASSERT_TRUE(write(server.get(), node.peer, from, {region, 0, kMiB}, &lost).ok());
  for (int i = 0; i < 20; ++i) node.loop->turn(Nanos(0));
  server->cancel(&lost);
  for (int i = 0; i < 20; ++i) node.loop->turn(Nanos(0));
  EXPECT_EQ(lost.runs, 0) << "it may be copying";
  ASSERT_TRUE(turn_until([&] { return lost.runs == 1; }, false));
  EXPECT_EQ(lost.result.code(), StatusCode::kUnavailable);
  EXPECT_EQ(closes(CloseReason::stalled), 1u);
}

TEST_F(ShmTransportTest, AFrozenPeerIsClosedByTheStallTimeout) {
  restart({.stall_timeout = milliseconds(100)});
  ASSERT_TRUE(connect().ok());
  std::vector<std::byte> into(kMiB);
  const RegionId region = register_at_engine(into);
  CountingOp op;
  ASSERT_TRUE(
      write(server.get(), node.peer, exporter.memory().first(kMiB), {region, 0, kMiB}, &op).ok());
  ASSERT_TRUE(turn_until([&] { return op.runs == 1; }, false));
  EXPECT_EQ(op.result.code(), StatusCode::kUnavailable);
  EXPECT_EQ(node.closes, 1);
}

TEST_F(ShmTransportTest, ACallerOfOurOwnUserIsRefusedUnlessSaid) {
  allow_same_user = false;
  restart({});
  EXPECT_EQ(connect().code(), StatusCode::kUnavailable);
  EXPECT_EQ(node.peer, PeerId{});
}

TEST_F(ShmTransportTest, NobodyButTheNodesUserHearsTheSecret) {
  ++listening_user;
  EXPECT_EQ(connect().code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(server->metrics().accepted.get(), 1u);
  EXPECT_EQ(closes(CloseReason::secret), 0u) << "not a byte was said";
}

TEST_F(ShmTransportTest, WhoDoesNotReadItsAnswersIsClosed) {
  restart({.stall_timeout = milliseconds(100)});
  const Fd fd = raw_link(5);
  ASSERT_TRUE(turn_until([&] { return node.peer != PeerId{}; }));
  const std::vector<std::byte> body(kMiB);
  ASSERT_TRUE(server->send_message(node.peer, {.kind = 1, .tag = 1, .body = body}).ok());
  ASSERT_TRUE(turn_until([&] { return node.closes == 1; }));
  EXPECT_EQ(closes(CloseReason::stalled), 1u);
}

TEST_F(ShmTransportTest, StrangersAreTurnedAway) {
  EXPECT_EQ(connect(99).code(), StatusCode::kUnavailable);
  const Fd silent(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const StatusOr<SocketAddress> to = parse_unix_address(name);
  ASSERT_EQ(::connect(silent.get(), to->get(), to->length), 0);
  ASSERT_TRUE(turn_until([&] { return is_closed(silent); }));
  EXPECT_EQ(closes(CloseReason::handshake), 1u);
  EXPECT_TRUE(connect().ok());
  EXPECT_FALSE(parse_unix_address("").ok());
  EXPECT_FALSE(parse_unix_address(std::string(108, 'a')).ok());
}

TEST_F(ShmTransportTest, WrongFramesEndTheirPeerAndNobodyElse) {
  ASSERT_TRUE(connect().ok());
  std::vector<std::byte> memory(kMiB);
  ASSERT_TRUE(server->register_region(memory).ok());  // region 1
  const auto transfer = [](FrameType type, const ShmTransfer& t) {
    return [type, body = encode(t)](const Fd& fd) {
      put(fd, {.type = type, .body_bytes = static_cast<uint32_t>(body.size())}, body);
    };
  };
  const RemoteSpan span{RegionId{1}, 0, 10};
  const std::vector<std::function<void(const Fd&)>> wrong = {
      [](const Fd& fd) { put(fd, {.type = FrameType::shm_done, .tag = 77}); },
      [](const Fd& fd) { put(fd, {.type = FrameType::shm_read_error, .tag = 7, .immediate = 5}); },
      [](const Fd& fd) { put(fd, {.type = FrameType::hello_ok}); },
      [](const Fd& fd) { put(fd, {.type = FrameType::write, .payload_bytes = 10}); },
      [](const Fd& fd) {
        put(fd, {.type = FrameType::shm_map, .tag = 3, .body_bytes = kShmFileFactsBytes},
            encode(ShmFileFacts{0, kMiB}));
      },
      // Bytes past the area, of no file, an answer to nothing, memory outside of the region.
      transfer(FrameType::shm_write, {.ref = 1,
                                      .bytes = 10,
                                      .spans = {span},
                                      .pieces = {{kAreaFile, ShmArea::kBytes - 5, 10}}}),
      transfer(FrameType::shm_write,
               {.ref = 1, .bytes = 10, .spans = {span}, .pieces = {{3, 0, 10}}}),
      transfer(FrameType::shm_read_data,
               {.ref = 1, .answers = 8, .bytes = 10, .pieces = {{kAreaFile, 0, 10}}}),
      transfer(FrameType::shm_read, {.ref = 1, .bytes = 10, .spans = {{RegionId{1}, kMiB, 10}}}),
  };
  for (size_t i = 0; i < wrong.size(); ++i) {
    SCOPED_TRACE("case " + std::to_string(i));
    const Fd fd = raw_link(static_cast<int>(10 + i));
    const uint64_t before = closes(CloseReason::bad_frame);
    wrong[i](fd);
    ASSERT_TRUE(turn_until([&] { return closes(CloseReason::bad_frame) == before + 1; }));
    ASSERT_TRUE(turn_until([&] { return is_closed(fd); }));
  }
  CountingOp alive;
  const std::vector<std::byte> hello(10);
  ASSERT_TRUE(client->send_message(engine.peer, {.kind = 1, .tag = 2, .body = hello}).ok());
  ASSERT_TRUE(turn_until([&] { return node.messages.size() == 1; }));
}

TEST_F(ShmTransportTest, DescriptorsFromACallerEndItsSession) {
  const Fd fd = raw_link(5);
  const FrameHeaderBytes head = encode(FrameHeader{.type = FrameType::message});
  iovec piece{const_cast<std::byte*>(head.data()), head.size()};
  alignas(cmsghdr) std::byte control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* const rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  const int raw = fd.get();
  std::memcpy(CMSG_DATA(rights), &raw, sizeof(raw));
  ASSERT_EQ(::sendmsg(fd.get(), &message, MSG_NOSIGNAL), static_cast<ssize_t>(head.size()));
  ASSERT_TRUE(turn_until([&] { return is_closed(fd); }));
  EXPECT_EQ(closes(CloseReason::bad_frame), 1u);
}

TEST_F(ShmTransportTest, APathIsTakenOverFromADeadProcessOnly) {
  const std::string path = testing::TempDir() + "/terrace-shm-test.sock";
  (void)::unlink(path.c_str());
  const auto listen = [&](ShmTransport* transport) {
    return transport->listen(path, [](std::span<const std::byte, 16>) { return true; });
  };
  const auto close = [&](std::unique_ptr<ShmTransport>* transport) {
    CountingOp closed;
    (*transport)->close(&closed);
    ASSERT_TRUE(turn_until([&] { return closed.runs == 1; }));
    transport->reset();
  };
  const auto make = [&] {
    return std::make_unique<ShmTransport>(node.loop.get(), &node, ShmOptions{}, nullptr);
  };
  auto first = make();
  ASSERT_TRUE(listen(first.get()).ok());
  auto second = make();
  EXPECT_EQ(listen(second.get()).code(), StatusCode::kUnavailable);
  close(&second);
  close(&first);
  EXPECT_NE(::access(path.c_str(), F_OK), 0) << "removed on the way out";
  {  // as a killed process leaves it
    const Fd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const StatusOr<SocketAddress> address = parse_unix_address(path);
    ASSERT_EQ(::bind(dead.get(), address->get(), address->length), 0);
  }
  auto third = make();
  EXPECT_TRUE(listen(third.get()).ok());
  close(&third);
}
}  // namespace
}  // namespace terrace
