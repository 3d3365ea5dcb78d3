// Goal: whatever a node does, each operation completes exactly once with the right code, by its
// deadline, and no byte outside of its fragments, or after its completion, is touched.
// Method: the real client and transport against a scripted node; one fault at a time, then all of
// them with random operations and cancels, with guard bytes around and poison after.
#include <gtest/gtest.h>

#include <map>

#include "client/client_fixture.h"

namespace terrace {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Fault = FakeNode::Fault;

class ClientTest : public ClientFixture {};

TEST_F(ClientTest, FetchScattersEveryByteAndNothingElse) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE("seed=" + std::to_string(seed));
    Prng prng(seed);
    const uint64_t bytes = 1 + prng.below(2'000'000);
    const auto object = stored(seed, bytes);
    std::fill(memory_.begin(), memory_.end(), kGuard);
    std::vector<std::byte> expected(memory_);
    std::vector<Fragment> fragments;
    uint64_t place = kMemoryBytes;
    for (uint64_t at = prng.below(bytes); at < bytes && fragments.size() < 500;) {
      const uint64_t length = std::min(1 + prng.below(40'000), bytes - at);
      place -= length + prng.below(50);
      fragments.push_back({at, region_, place, length});
      std::copy_n(object.begin() + static_cast<ptrdiff_t>(at), length,
                  expected.begin() + static_cast<ptrdiff_t>(place));
      at += length + (prng.chance(50) ? prng.below(4000) : 0);
    }
    const FetchItem item{key_of(seed), fragments};
    FetchOptions options;
    options.user_tag = seed;
    const Completion done = finish(client_->fetch(ns_, {&item, 1}, options));
    ASSERT_TRUE(done.status.ok()) << done.status.to_string();
    EXPECT_EQ(done.user_tag, seed);
    EXPECT_EQ(done.key_codes, std::vector{StatusCode::kOk});
    ASSERT_TRUE(memory_ == expected);
  }
  EXPECT_EQ(client_->statistics().bytes_verified, client_->statistics().bytes_fetched);
  EXPECT_EQ(client_->statistics().completed_ok, 30u);
}

TEST_F(ClientTest, EachFaultOfANodeHasItsCode) {
  struct Case {
    Fault fault;
    StatusCode code;
  };
  const Case cases[] = {
      {Fault::none, StatusCode::kOk},
      {Fault::reply_first, StatusCode::kOk},
      {Fault::wrong_crc, StatusCode::kDataLoss},
      {Fault::missing_frame, StatusCode::kDataLoss},
      {Fault::wrong_target, StatusCode::kInternal},
      {Fault::duplicate, StatusCode::kInternal},
      {Fault::foreign_item, StatusCode::kInternal},
      {Fault::short_reply, StatusCode::kInternal},
      {Fault::garbage, StatusCode::kInternal},
      {Fault::dies_midway, StatusCode::kUnavailable},
      {Fault::frozen, StatusCode::kDeadlineExceeded},
  };
  constexpr uint64_t kBytes = 1 << 20;
  const auto object = stored(1, kBytes);
  for (const Case& one : cases) {
    SCOPED_TRACE("fault=" + std::to_string(static_cast<int>(one.fault)));
    std::fill(memory_.begin(), memory_.end(), kGuard);
    node_->set(one.fault);
    FetchOptions options;
    options.deadline = one.fault == Fault::frozen ? milliseconds(250) : milliseconds(10'000);
    const auto op = fetch(1, kBytes, 4096, options);
    const Completion done = finish(op);
    EXPECT_EQ(done.status.code(), one.code) << done.status.to_string();
    EXPECT_EQ(client_->wait(*op, milliseconds(0)).status().code(), StatusCode::kNotFound);
    EXPECT_TRUE(guarded(0, 4096));
    EXPECT_TRUE(guarded(4096 + kBytes, kMemoryBytes));
    // Completed means untouched from now on, also when the node catches up.
    std::fill(memory_.begin(), memory_.end(), kGuard);
    node_->set(Fault::none);
    const Completion after = finish(fetch(1, kBytes, 8 << 20));
    EXPECT_TRUE(after.status.ok()) << after.status.to_string();
    EXPECT_TRUE(memory_is(8 << 20, object));
    EXPECT_TRUE(guarded(0, 8 << 20));
  }
  EXPECT_EQ(client_->statistics().crc_failures, 1u);
  EXPECT_EQ(client_->statistics().expired, 1u);
}

TEST_F(ClientTest, ANodeThatNeverRepliesStillGivesWhatItVerified) {
  stored(1, 100'000);
  node_->set(Fault::never_replies);
  FetchOptions options;
  options.deadline = milliseconds(200);
  const Completion done = finish(fetch(1, 100'000, 0, options));
  EXPECT_EQ(done.status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(done.key_codes, std::vector{StatusCode::kOk});
  EXPECT_TRUE(memory_is(0, content(1, 100'000)));
}

TEST_F(ClientTest, MissesAndHitsOfOneFetchHaveTheirOwnCodes) {
  stored(1, 5000);
  stored(3, 5000);
  std::vector<Fragment> places;
  std::vector<FetchItem> items;
  for (uint64_t i = 1; i <= 3; ++i) places.push_back({0, region_, i * 10'000, 5000});
  for (uint64_t i = 1; i <= 3; ++i) items.push_back({key_of(i), {&places[i - 1], 1}});
  const Completion done = finish(client_->fetch(ns_, items, {}));
  EXPECT_EQ(done.status.code(), StatusCode::kNotFound);
  EXPECT_EQ(done.key_codes, (std::vector{StatusCode::kOk, StatusCode::kNotFound, StatusCode::kOk}));
  EXPECT_TRUE(memory_is(10'000, content(1, 5000)));
  EXPECT_TRUE(guarded(20'000, 25'000));
  EXPECT_TRUE(memory_is(30'000, content(3, 5000)));
  EXPECT_EQ(client_->statistics().misses, 1u);
}

TEST_F(ClientTest, LayersAreAnnouncedInOrderAndTheirBytesAreThere) {
  Fingerprint model;
  model.model_id = "tiny";
  model.geometry.tokens_per_chunk = 64;
  model.geometry.layers.assign(8, {4, 64, Dtype::bf16, Attention::gqa, 0, -1, 0});
  const NamespaceId ns = *client_->open_namespace("a tiny model", model);
  const uint64_t bytes = total_bytes(sections_of(model.geometry, 64));
  node_->set_section_bytes(bytes / 16);
  const auto object = stored(1, bytes);
  const Fragment whole{0, region_, 0, bytes};
  const FetchItem item{key_of(1), {&whole, 1}};
  const auto op = client_->fetch(ns, {&item, 1}, {});
  ASSERT_TRUE(op.ok()) << op.status().to_string();
  for (uint32_t layer = 0; layer < 8; ++layer) {
    ASSERT_TRUE(client_->wait_layer(*op, layer, seconds(10)).ok());
    ASSERT_TRUE(std::equal(object.begin(),
                           object.begin() + static_cast<ptrdiff_t>(bytes / 8 * (layer + 1)),
                           memory_.begin()));
  }
  EXPECT_EQ(client_->wait_layer(*op, 8, seconds(10)).code(), StatusCode::kOutOfRange);
  EXPECT_TRUE(finish(op).status.ok());
  node_->set(Fault::wrong_crc);  // in the last layer
  const auto bad = client_->fetch(ns, {&item, 1}, {});
  EXPECT_EQ(client_->wait_layer(*bad, 7, seconds(10)).code(), StatusCode::kDataLoss);
  EXPECT_EQ(client_->layers_ready(*bad), 7u);
  finish(bad);
}

TEST_F(ClientTest, PutsStoreTheBytesAndDuplicatesAreNoFailure) {
  for (const uint64_t bytes : {1u, 65536u, 65537u, 3'000'001u}) {
    const Completion done = finish(put(bytes, bytes, 1000));
    EXPECT_TRUE(done.status.ok()) << done.status.to_string();
    EXPECT_EQ(done.bytes, bytes);
    EXPECT_TRUE(node_->get(key_of(bytes)) == content(bytes, bytes));
    const Completion again = finish(put(bytes, bytes, 1000));
    EXPECT_TRUE(again.status.ok());
    EXPECT_EQ(again.key_codes, std::vector{StatusCode::kAlreadyExists});
    EXPECT_EQ(again.bytes, 0u);
  }
  EXPECT_EQ(client_->statistics().puts_deduplicated, 4u);
}

TEST_F(ClientTest, ABatchOfPutsAndSourcesAnnouncedOneByOne) {
  constexpr uint32_t kItems = 40;  // more than go on the wire at once
  constexpr uint32_t kSections = 6;
  constexpr uint64_t kSectionBytes = 70'000;
  constexpr uint64_t kStride = 6 * kSectionBytes / 2;
  PutOptions layerwise;
  layerwise.sources_ready = false;
  const auto op = put_all(kItems, kSections, kSectionBytes, kStride, layerwise);
  ASSERT_TRUE(op.ok()) << op.status().to_string();
  EXPECT_EQ(client_->unregister_memory(region_).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(client_->source_ready(*op, kItems, 0, 1).code(), StatusCode::kInvalidArgument);
  for (uint32_t s = 0; s < kSections; s += 2) {
    for (uint32_t i = 0; i < kItems; ++i) {
      EXPECT_TRUE(client_->source_ready(*op, i, s, 2).ok());
      EXPECT_TRUE(client_->source_ready(*op, i, s, 1).ok()) << "said twice is no harm";
    }
  }
  const Completion done = finish(op);
  ASSERT_TRUE(done.status.ok()) << done.status.to_string();
  for (uint32_t i = 0; i < kItems; ++i) {
    EXPECT_TRUE(memory_is(i * kStride, node_->get(key_of(i)))) << i;
  }
  EXPECT_EQ(client_->source_ready(*op, 0, 0, 1).code(), StatusCode::kNotFound);
  EXPECT_TRUE(client_->unregister_memory(region_).ok());
  EXPECT_EQ(client_->unregister_memory(region_).code(), StatusCode::kNotFound);
}

TEST_F(ClientTest, ANodeReadsNothingBesideThePut) {
  node_->set(Fault::reads_too_much);
  const Completion done = finish(put(1, 100'000, 5000));
  EXPECT_FALSE(done.status.ok());
  EXPECT_EQ(node_->refused_reads(), 1u);
}

TEST_F(ClientTest, RandomOperationsUnderEveryFaultCompleteExactlyOnce) {
  constexpr uint64_t kSlot = 256 * kKiB;
  constexpr uint64_t kSlots = kMemoryBytes / kSlot;
  for (uint64_t n = 0; n < 8; ++n) stored(n, 1 + n * 30'000);
  Prng prng(11);
  struct Running {
    uint64_t slot;
    bool is_fetch;
    uint64_t number;
  };
  std::map<OpId, Running> running;
  std::vector<bool> busy(kSlots);
  uint64_t completed = 0, next_put = 1000;
  const auto drain = [&] {
    std::array<Completion, 8> out;
    for (size_t i = 0, n = client_->drain(out); i < n; ++i) {
      const auto found = running.find(out[i].op);
      ASSERT_NE(found, running.end()) << "completed twice";
      const Running r = found->second;
      if (r.is_fetch && out[i].key_codes.at(0) == StatusCode::kOk) {
        ASSERT_TRUE(memory_is(r.slot * kSlot, content(r.number, 1 + r.number * 30'000)));
      }
      // From here on these bytes are ours: poison them, and look at the end.
      std::fill_n(memory_.begin() + static_cast<ptrdiff_t>(r.slot * kSlot), kSlot, kGuard);
      running.erase(found);
      ++completed;
    }
  };
  uint64_t started = 0;
  SystemClock clock;
  const Nanos give_up = clock.now() + seconds(40);
  const Fault faults[] = {Fault::none,      Fault::none,          Fault::none,
                          Fault::wrong_crc, Fault::reply_first,   Fault::never_replies,
                          Fault::duplicate, Fault::missing_frame, Fault::wrong_target,
                          Fault::frozen,    Fault::never_reads,   Fault::dies_midway};
  while (started < 400 && clock.now() < give_up) {
    if (prng.chance(4)) node_->set(faults[prng.below(std::size(faults))]);
    if (prng.chance(1)) node_->drop_peers();
    const uint64_t slot = prng.below(kSlots);
    const bool in_use = std::any_of(running.begin(), running.end(),
                                    [&](const auto& r) { return r.second.slot == slot; });
    if (!in_use) {
      const bool is_fetch = prng.chance(60);
      const uint64_t number = is_fetch ? prng.below(8) : next_put++;
      FetchOptions fetching;
      PutOptions putting;
      fetching.deadline = putting.deadline = milliseconds(1 + prng.below(120));
      const auto op = is_fetch ? fetch(number, 1 + number * 30'000, slot * kSlot, fetching)
                               : put(number, 1 + prng.below(kSlot), slot * kSlot, putting);
      if (op.ok()) {
        running[*op] = {slot, is_fetch, number};
        ++started;
      } else {
        ASSERT_EQ(op.status().code(), StatusCode::kUnavailable) << op.status().to_string();
        std::fill_n(memory_.begin() + static_cast<ptrdiff_t>(slot * kSlot), kSlot, kGuard);
      }
    }
    if (!running.empty() && prng.chance(20)) {
      client_->cancel(
          std::next(running.begin(), static_cast<ptrdiff_t>(prng.below(running.size())))->first);
    }
    drain();
    if (HasFatalFailure()) return;
  }
  EXPECT_EQ(started, 400u);
  while (!running.empty() && clock.now() < give_up) drain();
  EXPECT_EQ(completed, started);
  node_->set(Fault::none);  // whatever was frozen is answered now, too late
  finish(client_->lookup(ns_, std::vector{key_of(1)}, {}));
  EXPECT_TRUE(guarded(0, kMemoryBytes)) << "a byte was written after its operation completed";
  const ClientStatistics s = client_->statistics();
  EXPECT_EQ(s.operations, started + 1);
}
}  // namespace
}  // namespace terrace
