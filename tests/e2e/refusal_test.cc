// Goal: what does not fit together is refused with a message that names both sides, and what is too
// much with one that names the limit; nothing moves and nobody else notices.
// Method: one mistake at a time against a real node.
#include <gtest/gtest.h>

#include "base/limits.h"
#include "tests/e2e/harness.h"

namespace terrace::e2e {
namespace {

using std::chrono::seconds;

Fingerprint model() {
  Fingerprint f;
  f.model_id = "llama";
  f.geometry.tokens_per_chunk = 16;
  f.geometry.layers.assign(2, {2, 64, Dtype::bf16, Attention::gqa, 0, -1, 0});
  return f;
}

/// A put of one item and its completion's status.
Status put_status(TestClient* client, const PutItem& item) {
  const auto op = client->sdk().put(client->ns(), {&item, 1}, {});
  if (!op.ok()) return op.status();
  const auto done = client->sdk().wait(*op, seconds(10));
  return done.ok() ? done->status : done.status();
}

class Refusal : public OverEachPath {};

TEST_P(Refusal, AnotherFingerprintNamesTheFieldAndBothValues) {
  NodeProcess node({});
  TestClient first(node.endpoint(), 1u << 20, model());
  auto second = Client::open(TestClient::config(node.endpoint()));
  ASSERT_TRUE(second.ok());
  Fingerprint other = model();
  other.geometry.layers[1].dtype = Dtype::fp8_e4m3;
  const auto refused = (*second)->open_namespace("test", other);
  EXPECT_EQ(refused.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(refused.status().message().find("layer 1 dtype"), std::string::npos);
  EXPECT_NE(refused.status().message().find("bf16"), std::string::npos);
  EXPECT_NE(refused.status().message().find("fp8_e4m3"), std::string::npos);
  EXPECT_TRUE((*second)->open_namespace("test", model()).ok());
}

TEST_P(Refusal, TenantsDoNotShareNamespaces) {
  NodeProcess node({});
  TestClient mine(node.endpoint());
  ASSERT_EQ(mine.put("secret", 100, Durability::memory), StatusCode::kOk);
  ClientConfig config = TestClient::config(node.endpoint());
  config.tenant = "other";
  auto theirs = Client::open(config);
  ASSERT_TRUE(theirs.ok());
  // The same name is another namespace; the other's number is not theirs to use.
  const auto ns = (*theirs)->open_namespace("test", TestClient::raw_fingerprint());
  ASSERT_TRUE(ns.ok());
  EXPECT_NE(*ns, mine.ns());
  const std::vector<ChunkKey> keys = {mine.key("secret")};
  const auto op = (*theirs)->lookup(*ns, keys, {});
  ASSERT_TRUE(op.ok());
  const auto done = (*theirs)->wait(*op, seconds(5));
  ASSERT_TRUE(done.ok());
  EXPECT_EQ(done->keys.at(0).code, StatusCode::kNotFound);
}

TEST_P(Refusal, WrongDtypeLengthOrLayerNamesBothSides) {
  NodeProcess node({});
  TestClient client(node.endpoint(), 4u << 20, model());
  std::vector<SectionSpec> sections = sections_of(model().geometry, 16);
  const auto keys = client.sdk().prefix_keys(client.ns(), std::vector<uint32_t>(16, 1));
  ASSERT_TRUE(keys.ok());
  PutItem item;
  item.key = (*keys)[0];
  for (SectionSpec& section : sections) section.bytes *= 2;  // f32 instead of bf16
  const Fragment twice{0, client.region(), 0, total_bytes(sections)};
  item.sections = sections;
  item.fragments = {&twice, 1};
  Status refused = put_status(&client, item);
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument) << refused.to_string();
  sections = sections_of(model().geometry, 16);
  sections[3].layer = 9;  // no such layer
  const Fragment once{0, client.region(), 0, total_bytes(sections)};
  item.sections = sections;
  item.fragments = {&once, 1};
  refused = put_status(&client, item);
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument) << refused.to_string();
}

TEST_P(Refusal, RangesOutsideTheObjectOrTheRegion) {
  NodeProcess node({});
  TestClient client(node.endpoint(), 1u << 20);
  ASSERT_EQ(client.put("short", 1000, Durability::memory), StatusCode::kOk);
  const Fragment past_object{500, client.region(), 0, 501};
  const FetchItem item{client.key("short"), {&past_object, 1}};
  const auto op = client.sdk().fetch(client.ns(), {&item, 1}, {});
  ASSERT_TRUE(op.ok());
  const auto done = client.sdk().wait(*op, seconds(10));
  ASSERT_TRUE(done.ok());
  EXPECT_EQ(done->key_codes.at(0), StatusCode::kOutOfRange);
  const Fragment past_region{0, client.region(), (1u << 20) - 10, 11};
  const FetchItem outside{client.key("short"), {&past_region, 1}};
  EXPECT_EQ(client.sdk().fetch(client.ns(), {&outside, 1}, {}).status().code(),
            StatusCode::kInvalidArgument);
}

TEST_P(Refusal, LimitsAreNamed) {
  NodeProcess node({});
  TestClient client(node.endpoint(), 1u << 20);
  const std::vector<ChunkKey> many(kKeysPerRequestMax + 1);
  const auto lookup = client.sdk().lookup(client.ns(), many, {});
  EXPECT_EQ(lookup.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(lookup.status().message().find(std::to_string(kKeysPerRequestMax)), std::string::npos);
  const std::string long_key(kRawKeyBytesMax + 1, 'k');
  EXPECT_EQ(client.sdk().raw_key(client.ns(), long_key).status().code(),
            StatusCode::kInvalidArgument);
}

TEST_P(Refusal, MoreThanTheTierHoldsIsShedAndTheRestStillWorks) {
  NodeProcess node({"--dram-bytes", "64MiB", "--slab-bytes", "64MiB"});
  TestClient client(node.endpoint(), 128u << 20);
  EXPECT_EQ(client.put("too large", 100u << 20, Durability::memory),
            StatusCode::kResourceExhausted);
  EXPECT_EQ(client.put("no disk", 1000, Durability::nvme), StatusCode::kUnavailable);
  EXPECT_EQ(client.put("fits", 1u << 20, Durability::memory), StatusCode::kOk);
  EXPECT_EQ(client.fetch("fits", 1u << 20), StatusCode::kOk);
}

INSTANTIATE_TEST_SUITE_P(Paths, Refusal, testing::Values(DataPath::tcp, DataPath::shm),
                         name_of_path);
}  // namespace
}  // namespace terrace::e2e
