// Goal: the receive machine puts every byte of a stream where it belongs, however the stream is
// cut, drops what it is told to drop, and takes no frame that its lane does not carry. Method:
// random streams of frames, cut at random, against what was put into them; wrong frames.
#include "transport/frame_receiver.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/limits.h"
#include "base/prng.h"

namespace terrace {
namespace {

struct SeenFrame {
  FrameHeader header;
  std::vector<std::byte> body;
  std::vector<std::byte> payload;
  bool dropped = false;
};

/// Gives every payload a place of its own, in random pieces.
class Collector final : public FrameSink {
 public:
  explicit Collector(Prng* prng) : prng_(prng) {}
  Status frame_begins(const FrameHeader& header, std::span<const std::byte> body,
                      std::vector<iovec>* places) override {
    SeenFrame frame{.header = header, .body = {body.begin(), body.end()}, .payload = {}};
    frame.payload.resize(header.payload_bytes);
    frame.dropped = header.payload_bytes > 0 && prng_->chance(drop_percent);
    seen.push_back(std::move(frame));
    if (seen.back().dropped) return ok_status();
    for (size_t at = 0; at < header.payload_bytes;) {
      const size_t piece = 1 + prng_->below(header.payload_bytes - at);
      places->push_back({seen.back().payload.data() + at, piece});
      at += piece;
    }
    return ok_status();
  }
  Status frame_ends(const FrameHeader& header, std::span<const std::byte> body) override {
    EXPECT_EQ(header, seen.back().header);
    EXPECT_TRUE(
        std::equal(body.begin(), body.end(), seen.back().body.begin(), seen.back().body.end()));
    ++ended;
    return ok_status();
  }
  std::vector<SeenFrame> seen;
  size_t ended = 0;
  uint32_t drop_percent = 10;

 private:
  Prng* const prng_;
};

std::vector<std::byte> random_bytes(Prng* prng, size_t count) {
  std::vector<std::byte> out(count);
  prng->fill(out);
  return out;
}

void append(std::vector<std::byte>* out, std::span<const std::byte> bytes) {
  out->insert(out->end(), bytes.begin(), bytes.end());
}

/// Feeds `stream` in pieces of at most `piece_max`, as want() asks for it.
Status feed(FrameReceiver* receiver, std::span<const std::byte> stream, size_t piece_max,
            Prng* prng) {
  while (!stream.empty()) {
    size_t left = std::min<size_t>(1 + prng->below(piece_max), stream.size());
    size_t took = 0;
    for (const iovec& place : receiver->want(1 + prng->below(300'000))) {
      const size_t bytes = std::min(left, place.iov_len);
      if (bytes > 0) std::memcpy(place.iov_base, stream.data() + took, bytes);
      took += bytes;
      left -= bytes;
    }
    if (took == 0) return error(StatusCode::kInternal, "want() asked for nothing");
    stream = stream.subspan(took);
    TERRACE_RETURN_IF_ERROR(receiver->received(took));
  }
  return ok_status();
}

size_t random_size(Prng* prng, size_t max) {
  return prng->chance(20) ? 0
                          : prng->below(uint64_t{1} << prng->below(1 + std::bit_width(max) - 1));
}

TEST(FrameReceiver, EveryByteArrivesHoweverTheStreamIsCut) {
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Prng prng(seed);
    const bool messages = prng.chance(30);
    std::vector<SeenFrame> sent;
    std::vector<std::byte> stream;
    for (int i = 0; i < 12; ++i) {
      SeenFrame frame;
      frame.header.tag = prng.next();
      frame.body = random_bytes(&prng, random_size(&prng, 300'000));
      if (messages) {
        frame.header.type = FrameType::message;
        frame.header.kind = static_cast<uint16_t>(prng.next());
      } else {
        frame.header.type = FrameType::write;
        frame.header.kind = static_cast<uint16_t>(std::min<size_t>(frame.body.size() / 24, 3));
        frame.payload = random_bytes(&prng, random_size(&prng, kFramePayloadBytesMax));
      }
      frame.header.body_bytes = static_cast<uint32_t>(frame.body.size());
      frame.header.payload_bytes = static_cast<uint32_t>(frame.payload.size());
      append(&stream, encode(frame.header));
      append(&stream, frame.body);
      append(&stream, frame.payload);
      sent.push_back(std::move(frame));
    }
    std::vector<std::byte> discard(1000);
    Collector sink(&prng);
    FrameReceiver receiver(&sink, discard);
    receiver.set_lane(messages ? FrameLane::messages : FrameLane::data);
    const size_t piece_max = prng.chance(30) ? 700 : 500'000;
    const Status status = feed(&receiver, stream, piece_max, &prng);
    ASSERT_TRUE(status.ok()) << status.to_string();
    EXPECT_FALSE(receiver.mid_frame());
    ASSERT_EQ(sink.seen.size(), sent.size());
    EXPECT_EQ(sink.ended, sent.size());
    for (size_t i = 0; i < sent.size(); ++i) {
      EXPECT_EQ(sink.seen[i].header, sent[i].header);
      EXPECT_EQ(sink.seen[i].body, sent[i].body) << "frame " << i;
      if (sink.seen[i].dropped) continue;
      EXPECT_EQ(sink.seen[i].payload, sent[i].payload) << "frame " << i;
    }
  }
}

TEST(FrameReceiver, APayloadGivenUpHalfwayKeepsTheStreamInStep) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Prng prng(seed);
    std::vector<std::byte> discard(333);
    Collector sink(&prng);
    sink.drop_percent = 0;
    FrameReceiver receiver(&sink, discard);
    receiver.set_lane(FrameLane::data);
    const size_t bytes = 2 + prng.below(100'000);
    const FrameHeader header{.type = FrameType::write,
                             .payload_bytes = static_cast<uint32_t>(bytes)};
    std::vector<std::byte> first;
    append(&first, encode(header));
    const size_t before = 1 + prng.below(bytes - 1);
    append(&first, random_bytes(&prng, before));
    ASSERT_TRUE(feed(&receiver, first, 5000, &prng).ok());
    receiver.discard_payload();
    const std::vector<std::byte> kept = sink.seen[0].payload;
    std::vector<std::byte> second = random_bytes(&prng, bytes - before);
    append(&second, encode(FrameHeader{.type = FrameType::write, .tag = 7}));
    ASSERT_TRUE(feed(&receiver, second, 5000, &prng).ok());
    EXPECT_EQ(sink.seen[0].payload, kept);  // not a byte more
    ASSERT_EQ(sink.seen.size(), 2u);
    EXPECT_EQ(sink.seen[1].header.tag, 7u);
  }
}

TEST(FrameReceiver, WrongFramesAreRefusedBeforeTheirBody) {
  const auto code = [](FrameLane lane, FrameHeader header) {
    Prng prng(1);
    std::vector<std::byte> discard(10);
    Collector sink(&prng);
    FrameReceiver receiver(&sink, discard);
    receiver.set_lane(lane);
    const Status status = feed(&receiver, encode(header), 32, &prng);
    EXPECT_EQ(sink.seen.empty(), !status.ok());
    return status.code();
  };
  using enum FrameType;
  constexpr StatusCode kBad = StatusCode::kInvalidArgument;
  EXPECT_EQ(code(FrameLane::messages, {.type = message}), StatusCode::kOk);
  EXPECT_EQ(code(FrameLane::messages, {.type = message, .payload_bytes = 1}), kBad);
  EXPECT_EQ(code(FrameLane::messages, {.type = write}), kBad);
  EXPECT_EQ(code(FrameLane::data, {.type = message}), kBad);
  EXPECT_EQ(code(FrameLane::data, {.type = hello, .body_bytes = kHelloBytes}), kBad);
  EXPECT_EQ(code(FrameLane::data, {.type = write, .kind = 257, .body_bytes = 257 * 24}), kBad);
  EXPECT_EQ(code(FrameLane::data, {.type = write, .kind = 2, .body_bytes = 47}), kBad);
  EXPECT_EQ(code(FrameLane::data, {.type = read, .kind = 0}), kBad);
  EXPECT_EQ(code(FrameLane::data, {.type = read, .kind = 1, .body_bytes = 25}), kBad);
  EXPECT_EQ(
      code(FrameLane::data, {.type = read, .kind = 1, .body_bytes = 24, .immediate = 2u << 20}),
      kBad);
  EXPECT_EQ(code(FrameLane::data, {.type = read_data}), kBad);
  EXPECT_EQ(code(FrameLane::data, {.type = read_error, .immediate = 0}), kBad);
  EXPECT_EQ(code(FrameLane::hello, {.type = message}), kBad);
  EXPECT_EQ(code(FrameLane::hello, {.type = hello, .body_bytes = 25}), kBad);
  EXPECT_EQ(code(FrameLane::hello_ok, {.type = hello_ok, .body_bytes = 1}), kBad);
  EXPECT_EQ(code(FrameLane::nothing, {.type = message}), kBad);
}

TEST(FrameReceiver, APausedLaneKeepsWhatCame) {
  Prng prng(3);
  std::vector<std::byte> discard(10);
  Collector sink(&prng);
  FrameReceiver receiver(&sink, discard);
  receiver.set_lane(FrameLane::messages);
  std::vector<std::byte> stream;
  append(&stream, encode(FrameHeader{.type = FrameType::message, .tag = 1}));
  append(&stream, encode(FrameHeader{.type = FrameType::message, .tag = 2}));
  const std::span<iovec> place = receiver.want(1000);
  std::memcpy(place[0].iov_base, stream.data(), stream.size());
  receiver.set_lane(FrameLane::paused);
  ASSERT_TRUE(receiver.received(stream.size()).ok());
  EXPECT_TRUE(sink.seen.empty());
  receiver.set_lane(FrameLane::messages);
  ASSERT_TRUE(receiver.received(0).ok());
  EXPECT_EQ(sink.seen.size(), 2u);
}
}  // namespace
}  // namespace terrace
