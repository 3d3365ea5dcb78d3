// Goal: what a node puts on the wire for a fetch is what docs/formats.md says, few frames for many
// small sections. Method: a client of plain sockets that parses the frames itself.
#include <gtest/gtest.h>

#include <cstring>

#include "base/limits.h"
#include "proto/data.pb.h"
#include "proto/message_kind.h"
#include "tests/e2e/harness.h"
#include "tests/e2e/raw_client.h"

namespace terrace::e2e {
namespace {

TEST(WireTest, SmallSectionsTravelTogetherInOrder) {
  constexpr uint32_t kSections = 64;
  constexpr uint64_t kSectionBytes = 8 * kKiB;
  constexpr uint64_t kBytes = kSections * kSectionBytes;
  NodeProcess node({});
  TestClient honest(node.endpoint());
  ASSERT_EQ(honest.put("planes", kBytes, Durability::memory, kSections), StatusCode::kOk);
  RawClient client(node.endpoint(), node.data_port());
  client.send(MessageKind::fetch_request, 1, fetch_of(client, honest.key("planes"), kBytes));
  const std::vector<std::byte> content = TestClient::content("planes", kBytes);
  uint32_t next = 0;
  uint64_t frames = 0;
  while (next < kSections) {
    ++frames;
    const auto frame = client.data().receive();
    ASSERT_TRUE(frame && frame->header.type == FrameType::write);
    EXPECT_LE(frame->payload.size(), 128 * kKiB);
    const size_t table = frame->header.kind * kRemoteSpanBytes;
    const auto* body = reinterpret_cast<const char*>(frame->body.data());
    const auto deliveries = unpack_deliveries({body + table, frame->body.size() - table});
    ASSERT_TRUE(deliveries.ok()) << deliveries.status().to_string();
    uint64_t at = 0;
    for (const Delivery& delivery : *deliveries) {
      EXPECT_EQ(delivery.section, next++);
      EXPECT_EQ(std::memcmp(frame->payload.data() + at, content.data() + delivery.object_offset,
                            delivery.bytes),
                0);
      at += delivery.bytes;
    }
    EXPECT_EQ(at, frame->payload.size());
  }
  proto::FetchReply reply;
  ASSERT_TRUE(client.receive(MessageKind::fetch_reply, &reply));
  EXPECT_EQ(reply.outcome().code(), 0);
  EXPECT_EQ(reply.frames(), frames);
  EXPECT_LE(frames, 10u) << "of at most 128 KiB, the first ones smaller";
}
}  // namespace
}  // namespace terrace::e2e
