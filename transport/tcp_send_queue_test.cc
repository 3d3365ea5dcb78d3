// Goal: the queue gives the kernel every byte once and in order, and says exactly once when
// borrowed memory is free, whether the frame was sent, stopped before, or stopped in the middle.
// Method: random frames, random short sends and stops; the bytes that "went out" are parsed again.
#include "transport/tcp_send_queue.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>

#include "base/prng.h"

namespace terrace {
namespace {

struct Counting final : Op {
  void done(Status status) override {
    ++runs;
    result = std::move(status);
  }
  int runs = 0;
  Status result;
  std::vector<std::byte> memory;
};

OutFrame write_of(Counting* op, uint64_t tag) {
  OutFrame frame = make_frame({.type = FrameType::write,
                               .tag = tag,
                               .payload_bytes = static_cast<uint32_t>(op->memory.size())},
                              {}, {});
  const size_t half = op->memory.size() / 2;
  frame.payload = {{op->memory.data(), half}, {op->memory.data() + half, op->memory.size() - half}};
  frame.payload_bytes = op->memory.size();
  frame.op = op;
  return frame;
}

class SendQueueTest : public testing::TestWithParam<uint64_t> {
 protected:
  /// The kernel takes a random part of what it is offered.
  void send_some() {
    size_t left = 1 + prng.below(5000);
    size_t took = 0;
    for (const iovec& piece : queue.gather(1 + prng.below(8000))) {
      const size_t bytes = std::min(left, piece.iov_len);
      const auto* from = static_cast<const std::byte*>(piece.iov_base);
      out.insert(out.end(), from, from + bytes);
      left -= bytes;
      took += bytes;
    }
    if (prng.chance(30)) stop_random();  // while the kernel has them
    std::vector<EndedFrame> ended;
    queue.advance(took, &ended);
    finish(ended);
  }
  void stop_random() {
    const uint64_t tag = prng.below(ops.size());
    std::vector<EndedFrame> ended;
    queue.stop([tag](const OutFrame& frame) { return frame.tag == tag; }, &ended);
    finish(ended);
  }
  void finish(std::vector<EndedFrame>& ended) {
    for (EndedFrame& frame : ended) {
      if (frame.op == nullptr) continue;
      auto* op = static_cast<Counting*>(frame.op);
      op->done(frame.result);
      std::fill(op->memory.begin(), op->memory.end(), std::byte{0xEE});  // it is the owner's again
    }
  }
  Prng prng{GetParam()};
  TcpSendQueue queue;
  std::vector<std::unique_ptr<Counting>> ops;
  std::vector<std::vector<std::byte>> contents;
  std::vector<std::byte> out;
};

TEST_P(SendQueueTest, EveryByteOnceInOrderAndEveryOpOnce) {
  SCOPED_TRACE("seed " + std::to_string(GetParam()));
  for (uint64_t tag = 0; tag < 30; ++tag) {
    ops.push_back(std::make_unique<Counting>());
    ops.back()->memory.resize(2 + prng.below(10'000));
    prng.fill(ops.back()->memory);
    contents.push_back(ops.back()->memory);
    queue.push(write_of(ops.back().get(), tag));
    if (prng.chance(70)) send_some();
    if (prng.chance(20)) stop_random();
  }
  while (!queue.empty()) send_some();
  EXPECT_EQ(queue.bytes(), 0u);
  EXPECT_EQ(queue.write_bytes(), 0u);
  uint64_t last = 0;
  std::vector<bool> arrived(ops.size());
  for (size_t at = 0; at < out.size();) {
    const StatusOr<FrameHeader> header =
        decode_header(std::span(out).subspan(at).first<kFrameHeaderBytes>());
    ASSERT_TRUE(header.ok());
    at += kFrameHeaderBytes;
    ASSERT_GE(header->tag, last);
    last = header->tag;
    arrived[header->tag] = true;
    const std::vector<std::byte>& wanted = contents[header->tag];
    ASSERT_EQ(header->payload_bytes, wanted.size());
    ASSERT_EQ(std::memcmp(out.data() + at, wanted.data(), wanted.size()), 0) << header->tag;
    at += wanted.size();
  }
  for (size_t i = 0; i < ops.size(); ++i) {
    EXPECT_EQ(ops[i]->runs, 1) << i;
    EXPECT_EQ(ops[i]->result.ok(), arrived[i]) << i;
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, SendQueueTest, testing::Range<uint64_t>(1, 101));

TEST(TcpSendQueue, AStoppedAnswerBecomesARefusal) {
  std::vector<std::byte> memory(100);
  TcpSendQueue queue;
  OutFrame answer =
      make_frame({.type = FrameType::read_data, .tag = 9, .payload_bytes = 100}, {}, {});
  answer.payload = {{memory.data(), memory.size()}};
  answer.payload_bytes = 100;
  answer.pinned = {{RegionId{1}, 0, 100}};
  queue.push(std::move(answer));
  EXPECT_TRUE(queue.borrows(memory));
  std::vector<EndedFrame> ended;
  EXPECT_FALSE(queue.stop([](const OutFrame&) { return true; }, &ended));
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].pinned.size(), 1u);
  EXPECT_FALSE(ended[0].answered_read);
  EXPECT_FALSE(queue.borrows(memory));
  const std::span<iovec> pieces = queue.gather(1000);
  ASSERT_EQ(pieces.size(), 1u);
  ASSERT_EQ(pieces[0].iov_len, kFrameHeaderBytes);
  FrameHeaderBytes bytes;
  std::memcpy(bytes.data(), pieces[0].iov_base, bytes.size());
  const StatusOr<FrameHeader> header = decode_header(bytes);
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(header->type, FrameType::read_error);
  EXPECT_EQ(header->tag, 9u);
  EXPECT_EQ(header->immediate, static_cast<uint32_t>(StatusCode::kCancelled));
  ended.clear();
  queue.advance(kFrameHeaderBytes, &ended);
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_TRUE(ended[0].answered_read);
}
}  // namespace
}  // namespace terrace
