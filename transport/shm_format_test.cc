// Goal: transfers survive the way there and back; anything else is refused by name. Method: random
// transfers from seeds; every truncation; single wrong fields.
#include "transport/shm_format.h"

#include <gtest/gtest.h>

#include <string>

#include "base/limits.h"
#include "base/prng.h"

namespace terrace {
namespace {

ShmTransfer random_transfer(Prng* prng, std::vector<std::byte>* body) {
  ShmTransfer out{.ref = 1 + prng->below(1000)};
  const uint32_t parts = 1 + static_cast<uint32_t>(prng->below(20));
  for (uint32_t i = 0; i < parts; ++i) {
    const uint64_t length = 1 + prng->below(1000);
    out.spans.push_back({RegionId{prng->below(9)}, prng->below(kGiB), length});
    out.pieces.push_back({prng->chance(50) ? kAreaFile : 7, prng->below(kGiB), length});
    out.bytes += static_cast<uint32_t>(length);
  }
  body->resize(prng->below(100));
  prng->fill(*body);
  out.body = *body;
  return out;
}

TEST(ShmFormat, TransfersComeBackAndTruncatedOnesDoNot) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE("seed=" + std::to_string(seed));
    Prng prng(seed);
    std::vector<std::byte> body;
    const ShmTransfer sent = random_transfer(&prng, &body);
    const std::vector<std::byte> bytes = encode(sent);
    const StatusOr<ShmTransfer> got = decode_shm_transfer(FrameType::shm_write, bytes);
    ASSERT_TRUE(got.ok()) << got.status().to_string();
    EXPECT_EQ(got->ref, sent.ref);
    EXPECT_EQ(got->bytes, sent.bytes);
    EXPECT_EQ(got->spans, sent.spans);
    EXPECT_EQ(got->pieces, sent.pieces);
    EXPECT_TRUE(std::equal(body.begin(), body.end(), got->body.begin(), got->body.end()));
    const size_t cut = prng.below(bytes.size() - body.size());
    EXPECT_FALSE(decode_shm_transfer(FrameType::shm_write, std::span(bytes).first(cut)).ok());
  }
}

TEST(ShmFormat, WrongTransfersAreRefused) {
  const auto refused = [](FrameType type, const ShmTransfer& transfer) {
    return decode_shm_transfer(type, encode(transfer)).status().code() ==
           StatusCode::kInvalidArgument;
  };
  const RemoteSpan span{RegionId{1}, 0, 10};
  const ShmPiece piece{1, 0, 10};
  const ShmTransfer good{.ref = 1, .bytes = 10, .spans = {span}, .pieces = {piece}};
  EXPECT_FALSE(refused(FrameType::shm_write, good));
  ShmTransfer bad = good;
  bad.ref = 0;
  EXPECT_TRUE(refused(FrameType::shm_write, bad));
  bad = good;
  bad.bytes = 11;
  EXPECT_TRUE(refused(FrameType::shm_write, bad));
  bad = good;
  bad.pieces[0].offset = ~uint64_t{0} - 3;
  EXPECT_TRUE(refused(FrameType::shm_write, bad));
  bad = good;
  bad.spans[0].length = 0;
  EXPECT_TRUE(refused(FrameType::shm_write, bad));
  EXPECT_TRUE(refused(FrameType::shm_read, good)) << "a read has no pieces";
  EXPECT_TRUE(refused(FrameType::shm_read_data, good)) << "an answer has no spans";
  bad = good;
  bad.pieces.assign(kShmPiecesMax + 1, {1, 0, 1});
  bad.spans[0].length = bad.bytes = kShmPiecesMax + 1;
  EXPECT_TRUE(refused(FrameType::shm_write, bad));
  bad = good;
  bad.spans.assign(kFramesFragmentsMax + 1, {RegionId{1}, 0, 1});
  bad.pieces[0].length = bad.bytes = kFramesFragmentsMax + 1;
  EXPECT_TRUE(refused(FrameType::shm_write, bad));
  EXPECT_TRUE(refused(FrameType::shm_read, {.ref = 1})) << "a read of nothing";
}

TEST(ShmFormat, FileFactsAreBounded) {
  const ShmFileFacts good{4096, kMiB};
  const StatusOr<ShmFileFacts> got = decode_shm_file(encode(good));
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->offset, good.offset);
  EXPECT_EQ(got->bytes, good.bytes);
  EXPECT_FALSE(decode_shm_file(encode(ShmFileFacts{4096, 0})).ok());
  EXPECT_FALSE(decode_shm_file(encode(ShmFileFacts{100, kMiB})).ok());
  EXPECT_FALSE(decode_shm_file(encode(ShmFileFacts{0, ~uint64_t{0}})).ok());
  EXPECT_FALSE(decode_shm_file({}).ok());
}
}  // namespace
}  // namespace terrace
