// Goal: one operation over several nodes gives every key what its node said of it, whatever happens
// to the other nodes, as one operation: one id, one watermark, one completion.
// Method: the real client and transport against three scripted nodes that hold what they own; each
// kind of operation over all of them.
#include <gtest/gtest.h>

#include "base/limits.h"
#include "client/nodes_fixture.h"

namespace terrace {
namespace {

class NodesTest : public NodesFixture {};

std::vector<uint64_t> first_numbers(uint64_t count) {
  std::vector<uint64_t> numbers;
  for (uint64_t i = 0; i < count; ++i) numbers.push_back(i);
  return numbers;
}

TEST_F(NodesTest, OneFetchMergesWhatSeveralNodesHold) {
  constexpr uint64_t kBytes = 150'000;
  const std::vector<uint64_t> numbers = first_numbers(120);
  std::array<uint32_t, kNodes> held{};
  for (const uint64_t number : numbers) {
    store(number, kBytes);
    ++held[owner(number)];
  }
  for (const uint32_t count : held) EXPECT_GT(count, 20u);
  FetchOptions options;
  options.user_tag = 77;
  const auto op = fetch(numbers, kBytes, options);
  const Completion done = finish(op);
  ASSERT_TRUE(done.status.ok()) << done.status.to_string();
  EXPECT_EQ(done.op, *op);
  EXPECT_EQ(done.user_tag, 77u);
  EXPECT_EQ(done.key_codes, std::vector<StatusCode>(120, StatusCode::kOk));
  EXPECT_EQ(done.bytes, 120 * kBytes);
  for (const uint64_t number : numbers) {
    ASSERT_TRUE(memory_is(number * kBytes, content(number, kBytes))) << number;
  }
  EXPECT_TRUE(guarded(120 * kBytes, kMemoryBytes));
  EXPECT_EQ(client_->statistics().operations, 1u);
  EXPECT_EQ(client_->statistics().completed_ok, 1u);
  std::array<Completion, 4> none;
  EXPECT_EQ(client_->drain(none), 0u) << "the parts complete nothing of their own";
}

TEST_F(NodesTest, MissesHaveTheirCodesInTheCallersOrder) {
  const std::vector<uint64_t> numbers = first_numbers(40);
  std::vector<StatusCode> wanted;
  for (const uint64_t number : numbers) {
    if (number % 3 != 0) store(number, 1000);
    wanted.push_back(number % 3 != 0 ? StatusCode::kOk : StatusCode::kNotFound);
  }
  const Completion done = finish(fetch(numbers, 1000));
  EXPECT_EQ(done.status.code(), StatusCode::kNotFound);
  EXPECT_EQ(done.key_codes, wanted);
  EXPECT_EQ(client_->statistics().misses, 14u);
  EXPECT_EQ(client_->statistics().failed, 0u) << "a miss is no failure";
}

TEST_F(NodesTest, APutGoesToTheOwnersSectionBySection) {
  constexpr uint32_t kItems = 60;
  constexpr uint32_t kSections = 4;
  constexpr uint64_t kSectionBytes = 70'000;
  constexpr uint64_t kStride = 300'000;
  PutOptions layerwise;
  layerwise.sources_ready = false;
  const auto op = put_all(kItems, kSections, kSectionBytes, kStride, layerwise);
  ASSERT_TRUE(op.ok()) << op.status().to_string();
  EXPECT_EQ(client_->source_ready(*op, kItems, 0, 1).code(), StatusCode::kInvalidArgument);
  for (uint32_t s = 0; s < kSections; ++s) {
    for (uint32_t i = 0; i < kItems; ++i) ASSERT_TRUE(client_->source_ready(*op, i, s, 1).ok());
  }
  const Completion done = finish(op);
  ASSERT_TRUE(done.status.ok()) << done.status.to_string();
  EXPECT_EQ(done.bytes, uint64_t{kItems} * kSections * kSectionBytes);
  for (uint32_t i = 0; i < kItems; ++i) {
    for (uint32_t n = 0; n < kNodes; ++n) {
      const auto there = nodes_[n]->get(key_of(i));
      EXPECT_EQ(there.empty(), n != owner(i)) << "an object lies on its owner alone";
      if (n == owner(i)) {
        EXPECT_TRUE(memory_is(i * kStride, there)) << i;
      }
    }
  }
  const Completion again = finish(put_all(kItems, kSections, kSectionBytes, kStride, {}));
  EXPECT_TRUE(again.status.ok());
  EXPECT_EQ(again.key_codes, std::vector<StatusCode>(kItems, StatusCode::kAlreadyExists));
}

TEST_F(NodesTest, LookupEraseAndTouchReachEveryOwner) {
  const std::vector<uint64_t> numbers = first_numbers(50);
  for (const uint64_t number : numbers) {
    if (number % 2 == 0) store(number, 100 + number);
  }
  const Completion found = finish(client_->lookup(ns_, keys_of(numbers), {}));
  ASSERT_TRUE(found.status.ok()) << found.status.to_string();
  ASSERT_EQ(found.keys.size(), 50u);
  for (const uint64_t number : numbers) {
    EXPECT_EQ(found.keys[number].code, number % 2 == 0 ? StatusCode::kOk : StatusCode::kNotFound);
    EXPECT_EQ(found.keys[number].bytes, number % 2 == 0 ? 100 + number : 0);
  }
  client_->touch(ns_, keys_of(numbers));
  const Completion erased = finish(client_->erase(ns_, keys_of(numbers), {}));
  EXPECT_EQ(erased.status.code(), StatusCode::kNotFound);
  for (const uint64_t number : numbers) {
    EXPECT_EQ(erased.key_codes[number], number % 2 == 0 ? StatusCode::kOk : StatusCode::kNotFound);
    EXPECT_TRUE(nodes_[owner(number)]->get(key_of(number)).empty());
  }
  EXPECT_EQ(nodes_[0]->touched() + nodes_[1]->touched() + nodes_[2]->touched(), 50u);
  for (const auto& node : nodes_) EXPECT_GT(node->touched(), 0u);
}

TEST_F(NodesTest, TheLongestPrefixIsOverAllNodes) {
  const std::vector<ChunkKey> keys = keys_of(first_numbers(30));
  const std::vector<ChunkKey> others =
      keys_of({100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114,
               115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128, 129});
  for (uint64_t i = 0; i < 30; ++i) {
    if (i != 20) store(i, 10);
  }
  const GroupKeys all{keys, 0};
  LookupOptions leased;
  leased.lease = seconds(1);
  Completion done = finish(client_->match_prefix(ns_, {&all, 1}, leased));
  ASSERT_TRUE(done.status.ok()) << done.status.to_string();
  EXPECT_EQ(done.longest, 20u);
  EXPECT_EQ(done.keys.size(), 30u);
  for (uint32_t i = 0; i < 30; ++i) EXPECT_EQ(done.restorable[i], i < 20) << i;
  EXPECT_NE(done.lease, kNoLease);
  // A group of which only the last two chunks of a prefix count.
  for (const uint64_t number : {109u, 110u, 115u, 116u, 117u}) store(number, 10);
  const GroupKeys both[] = {{keys, 0}, {others, 2}};
  done = finish(client_->match_prefix(ns_, both, {}));
  EXPECT_EQ(done.longest, 18u);
  for (uint32_t i = 0; i < 30; ++i) {
    EXPECT_EQ(done.restorable[i], i == 10 || i == 16 || i == 17) << i;
  }
  EXPECT_EQ(done.keys.size(), 30u) << "those of the first group";
  // Chunks that nobody can ask for count as missing.
  kill(owner(5));
  ASSERT_TRUE(until(owner(5), false));
  done = finish(client_->match_prefix(ns_, {&all, 1}, {}));
  EXPECT_EQ(done.status.code(), StatusCode::kUnavailable);
  uint32_t reachable = 0;
  while (owner(reachable) != owner(5)) ++reachable;
  EXPECT_EQ(done.longest, reachable);
}

TEST_F(NodesTest, AListWalksNodeAfterNode) {
  std::set<ChunkKey> wanted;
  for (uint64_t number = 0; number < 100; ++number) {
    store(number, 10 + number);
    wanted.insert(key_of(number));
  }
  const auto walk = [&](StatusCode* worst) {
    std::set<ChunkKey> seen;
    std::string cursor;
    uint32_t pages = 0;
    do {
      const Completion page = finish(client_->list(ns_, cursor, 7, {}));
      if (!page.status.ok()) *worst = page.status.code();
      for (const ObjectEntry& entry : page.entries) {
        EXPECT_TRUE(seen.insert(entry.key).second) << "listed twice";
      }
      cursor = page.cursor;
    } while (!cursor.empty() && ++pages < 100);
    EXPECT_LT(pages, 100u);
    return seen;
  };
  StatusCode worst = StatusCode::kOk;
  EXPECT_EQ(walk(&worst), wanted);
  EXPECT_EQ(worst, StatusCode::kOk);
  for (const char* bad : {"3:", "x:", "1", "01:", ":", "0:zz", "100:", "0"}) {
    EXPECT_EQ(client_->list(ns_, bad, 7, {}).status().code(), StatusCode::kInvalidArgument) << bad;
  }
  kill(1);
  ASSERT_TRUE(until(1, false));
  std::erase_if(wanted, [&](const ChunkKey& key) { return owners_.owner(key) == 1; });
  EXPECT_EQ(walk(&worst), wanted) << "the others are listed all the same";
  EXPECT_EQ(worst, StatusCode::kUnavailable);
}

TEST_F(NodesTest, ALeaseOfSeveralNodesIsReleasedAtAllOfThem) {
  const std::vector<uint64_t> numbers = first_numbers(30);
  for (const uint64_t number : numbers) store(number, 100);
  LookupOptions leased;
  leased.lease = seconds(5);
  const Completion found = finish(client_->lookup(ns_, keys_of(numbers), leased));
  ASSERT_NE(found.lease, kNoLease);
  for (const auto& node : nodes_) EXPECT_EQ(node->leases(), 1u);
  FetchOptions options;
  options.lease = found.lease;
  EXPECT_TRUE(finish(fetch(numbers, 100, options)).status.ok());
  client_->release(found.lease);
  client_->release(found.lease);
  client_->release(LeaseId{~uint64_t{0}});
  client_->release(LeaseId{~uint64_t{0} >> 1});
  EXPECT_TRUE(finish(client_->lookup(ns_, keys_of(numbers), {})).status.ok()) << "in order";
  for (const auto& node : nodes_) EXPECT_EQ(node->releases(), 1u);
}

TEST_F(NodesTest, LayersOfAllNodesMakeOneWatermark) {
  Fingerprint model;
  model.model_id = "tiny";
  model.geometry.tokens_per_chunk = 64;
  model.geometry.layers.assign(8, {4, 64, Dtype::bf16, Attention::gqa, 0, -1, 0});
  const NamespaceId ns = *client_->open_namespace("a tiny model", model);
  const uint64_t bytes = total_bytes(sections_of(model.geometry, 64));
  for (const auto& node : nodes_) node->set_section_bytes(bytes / 16);
  const std::vector<uint64_t> numbers = first_numbers(12);
  for (const uint64_t number : numbers) store(number, bytes);
  const auto op = fetch(numbers, bytes, {}, ns);
  for (uint32_t layer = 0; layer < 8; ++layer) {
    ASSERT_TRUE(client_->wait_layer(*op, layer, seconds(10)).ok());
    for (const uint64_t number : numbers) {
      const auto object = content(number, bytes);
      ASSERT_TRUE(std::equal(object.begin(),
                             object.begin() + static_cast<ptrdiff_t>(bytes / 8 * (layer + 1)),
                             memory_.begin() + static_cast<ptrdiff_t>(number * bytes)))
          << "layer " << layer << " of " << number;
    }
  }
  EXPECT_TRUE(client_->keys_lost(*op)->empty());
  EXPECT_TRUE(finish(op).status.ok());
  EXPECT_EQ(client_->layers_ready(*op), 8u);

  // One node dies half way, one keeps silent for a while: the watermark waits for the silent one
  // and for nobody else.
  nodes_[0]->set(Fault::frozen);
  nodes_[1]->set(Fault::dies_midway);
  const auto second = fetch(numbers, bytes, {}, ns);
  const SystemClock clock;
  for (const Nanos end = clock.now() + seconds(10);
       clock.now() < end && client_->keys_lost(*second)->empty();) {
  }
  std::vector<uint32_t> wanted;
  for (const uint64_t number : numbers) {
    if (owner(number) == 1) wanted.push_back(static_cast<uint32_t>(number));
  }
  EXPECT_EQ(*client_->keys_lost(*second), wanted);
  EXPECT_EQ(client_->layers_ready(*second), 0u);
  EXPECT_EQ(client_->wait_layer(*second, 0, milliseconds(50)).code(),
            StatusCode::kDeadlineExceeded);
  nodes_[0]->set(Fault::none);
  EXPECT_EQ(client_->wait_layer(*second, 7, seconds(10)).code(), StatusCode::kUnavailable)
      << "it is there, but not for all keys";
  EXPECT_EQ(client_->layers_ready(*second), 8u);
  const Completion done = finish(second);
  EXPECT_EQ(done.status.code(), StatusCode::kUnavailable);
  for (const uint64_t number : numbers) {
    const bool lost = owner(number) == 1;
    EXPECT_EQ(done.key_codes[number], lost ? StatusCode::kUnavailable : StatusCode::kOk);
    EXPECT_TRUE(lost || memory_is(number * bytes, content(number, bytes)));
  }
}
}  // namespace
}  // namespace terrace
