// Goal: what clients may have in view is a part of the dram that there is, not of what there was.
// Method: a real node whose dram grows and shrinks; one client views what it can.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

#include "proto/tiers.grpc.pb.h"
#include "tests/e2e/harness.h"

namespace terrace::e2e {
namespace {
constexpr uint64_t kMiB = 1 << 20;

/// Once all of its slabs are there.
void resize_dram(const NodeProcess& node, uint64_t bytes) {
  const auto stub = proto::TierAdmin::NewStub(
      grpc::CreateChannel(node.endpoint(), grpc::InsecureChannelCredentials()));
  proto::ResizeRequest request;
  request.set_tier("dram");
  request.set_bytes(bytes);
  proto::ResizeProgress last;
  for (int i = 0; i < 200; ++i) {
    grpc::ClientContext context;
    const auto reader = stub->Resize(&context, request);
    for (proto::ResizeProgress each; reader->Read(&each);) last = each;
    const grpc::Status said = reader->Finish();
    if (said.error_code() != grpc::StatusCode::UNAVAILABLE) {
      ASSERT_TRUE(said.ok()) << said.error_message();
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(25));
  }
  EXPECT_TRUE(last.over());
  EXPECT_EQ(last.code(), 0) << last.message();
  EXPECT_EQ(last.bytes(), bytes);
}

TEST(ViewQuotaTest, IsAQuarterOfTheDramThatThereIs) {
  NodeProcess node({"--dram-bytes", "64MiB", "--slab-bytes", "16MiB"});
  TestClient client(node.endpoint());
  const auto view = [&client] {
    const std::vector<ChunkKey> keys = {client.key("viewed")};
    const auto op = client.sdk().view(client.ns(), keys, {});
    EXPECT_TRUE(op.ok()) << op.status().to_string();
    const auto done = client.sdk().wait(*op, std::chrono::seconds(5));
    EXPECT_TRUE(done.ok());
    for (const ObjectView& each : done->views) client.sdk().release_view(each.id);
    return done->key_codes.at(0);
  };
  resize_dram(node, 64 * kMiB);
  ASSERT_EQ(client.put("viewed", 10 * kMiB, Durability::memory), StatusCode::kOk);
  EXPECT_EQ(view(), StatusCode::kResourceExhausted) << "an eighth of 64 MiB for one client";
  resize_dram(node, 128 * kMiB);
  EXPECT_EQ(view(), StatusCode::kOk);
  resize_dram(node, 64 * kMiB);
  (void)client.put("viewed", 10 * kMiB, Durability::memory);  // it may have left with its slab
  EXPECT_EQ(view(), StatusCode::kResourceExhausted);
}
}  // namespace
}  // namespace terrace::e2e
