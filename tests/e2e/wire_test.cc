// Goal: what a node puts on the wire for a fetch is what docs/formats.md says, few frames for many
// small sections. Method: a client of plain sockets that parses the frames itself.
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

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

TEST(WireTest, AFetchThatIsCutShortCountsTheFramesThatLeft) {
  constexpr uint64_t kBytes = 64 * kMiB;  // more than sockets hold
  NodeProcess node({});
  TestClient honest(node.endpoint(), kBytes);
  ASSERT_EQ(honest.put("long", kBytes, Durability::memory), StatusCode::kOk);
  ASSERT_EQ(honest.put("short", 1000, Durability::memory), StatusCode::kOk);
  RawClient client(node.endpoint(), node.data_port());
  client.send(MessageKind::fetch_request, 1, fetch_of(client, honest.key("long"), kBytes));
  // Nobody reads the data, so frames wait in the node: it cannot be through.
  ASSERT_FALSE(client.messages().receive(200));
  client.send(MessageKind::cancel_request, 1, proto::CancelRequest());
  proto::FetchReply reply;
  std::thread other([&] {
    EXPECT_TRUE(client.receive(MessageKind::fetch_reply, &reply));
    client.send(MessageKind::fetch_request, 2, fetch_of(client, honest.key("short"), 1000));
  });
  uint64_t frames = 0;  // before that of the second fetch
  auto frame = client.data().receive();
  for (; frame && frame->header.tag == 1; frame = client.data().receive()) ++frames;
  other.join();
  EXPECT_TRUE(frame && frame->header.tag == 2);
  EXPECT_EQ(reply.outcome().code(), static_cast<int>(StatusCode::kCancelled));
  EXPECT_EQ(reply.frames(), frames);
}
}  // namespace
}  // namespace terrace::e2e
