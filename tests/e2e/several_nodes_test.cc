// Goal: three real nodes are one store to a client: each holds about a third, one fetch streams
// from all of them, and a node that is killed in mid-stream costs the keys that lie there and no
// others. Method: three processes; chunks of a model put in one operation, fetched in one operation
// with every byte compared; SIGKILL while the stream runs.
#include <gtest/gtest.h>
#include <signal.h>

#include "base/clock.h"
#include "base/geometry.h"
#include "base/rendezvous.h"
#include "tests/e2e/harness.h"

namespace terrace::e2e {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint32_t kChunks = 240;
constexpr uint32_t kNodes = 3;

Fingerprint model() {
  Fingerprint model;
  model.model_id = "tiny";
  model.geometry.tokens_per_chunk = 64;
  model.geometry.layers.assign(8, {4, 64, Dtype::bf16, Attention::gqa, 0, -1, 0});
  return model;
}

class SeveralNodesTest : public OverEachPath {
 protected:
  void SetUp() override {
    OverEachPath::SetUp();
    chunk_bytes_ = total_bytes(sections_of(model().geometry, 64));
    for (uint32_t n = 0; n < kNodes; ++n) {
      nodes_.push_back(std::make_unique<NodeProcess>(
          std::vector<std::string>{"--dram-bytes", "192MiB", "--slab-bytes", "64MiB"}));
      endpoints_.push_back(nodes_[n]->endpoint());
    }
    owners_ = std::make_unique<Rendezvous>(endpoints_);
    client_ = std::make_unique<TestClient>(endpoints_, kChunks * chunk_bytes_, model());
    std::vector<uint32_t> tokens(size_t{64} * kChunks);
    for (uint32_t i = 0; i < tokens.size(); ++i) tokens[i] = i;
    keys_ = *client_->sdk().prefix_keys(client_->ns(), tokens);
    ASSERT_EQ(keys_.size(), kChunks);
    for (uint32_t i = 0; i < kChunks; ++i) {
      places_.push_back({0, client_->region(), i * chunk_bytes_, chunk_bytes_});
    }
  }
  void TearDown() override {
    client_.reset();
    nodes_.clear();
    OverEachPath::TearDown();
  }

  std::span<std::byte> chunk(uint32_t i) {
    return client_->memory().subspan(i * chunk_bytes_, chunk_bytes_);
  }
  Completion finish(const StatusOr<OpId>& op) {
    EXPECT_TRUE(op.ok()) << op.status().to_string();
    if (!op.ok()) return {};
    auto done = client_->sdk().wait(*op, seconds(30));
    EXPECT_TRUE(done.ok()) << done.status().to_string();
    return done.ok() ? *std::move(done) : Completion{};
  }
  void put_all() {
    std::vector<PutItem> items(kChunks);
    for (uint32_t i = 0; i < kChunks; ++i) {
      Prng(i + 1).fill(chunk(i));
      items[i].key = keys_[i];
      items[i].fragments = {&places_[i], 1};
    }
    const Completion done = finish(client_->sdk().put(client_->ns(), items, {}));
    ASSERT_TRUE(done.status.ok()) << done.status.to_string();
    std::fill(client_->memory().begin(), client_->memory().end(), std::byte{0xA5});
  }
  StatusOr<OpId> fetch_all(milliseconds deadline) {
    std::vector<FetchItem> items(kChunks);
    for (uint32_t i = 0; i < kChunks; ++i) {
      items[i].key = keys_[i];
      items[i].fragments = {&places_[i], 1};
    }
    FetchOptions options;
    options.deadline = deadline;
    return client_->sdk().fetch(client_->ns(), items, options);
  }
  bool is_right(uint32_t i) {
    std::vector<std::byte> wanted(chunk_bytes_);
    Prng(i + 1).fill(wanted);
    return std::equal(wanted.begin(), wanted.end(), chunk(i).begin());
  }
  uint64_t bytes_on(uint32_t node) const {
    uint64_t bytes = 0;
    for (const ChunkKey& key : keys_) bytes += owners_->owner(key) == node ? chunk_bytes_ : 0;
    return bytes;
  }
  /// Waits until so many bytes have arrived.
  void until_verified(uint64_t bytes) {
    const SystemClock clock;
    for (const Nanos end = clock.now() + seconds(20); clock.now() < end;) {
      if (client_->sdk().statistics().bytes_verified >= bytes) return;
    }
    ADD_FAILURE() << "the bytes do not come";
  }

  uint64_t chunk_bytes_ = 0;
  std::vector<std::unique_ptr<NodeProcess>> nodes_;
  std::vector<std::string> endpoints_;
  std::unique_ptr<Rendezvous> owners_;
  std::unique_ptr<TestClient> client_;
  std::vector<ChunkKey> keys_;
  std::vector<Fragment> places_;
};

TEST_P(SeveralNodesTest, EachHoldsAThirdAndOneFetchStreamsFromAll) {
  put_all();
  for (uint32_t n = 0; n < kNodes; ++n) {
    TestClient alone(endpoints_[n], 1u << 20, model());
    const auto op = alone.sdk().lookup(alone.ns(), keys_, {});
    const auto found = alone.sdk().wait(*op, seconds(10));
    ASSERT_TRUE(found.ok());
    uint32_t held = 0;
    for (uint32_t i = 0; i < kChunks; ++i) {
      const bool here = found->keys.at(i).code == StatusCode::kOk;
      EXPECT_EQ(here, owners_->owner(keys_[i]) == n) << "a chunk lies on its owner alone";
      held += here ? 1 : 0;
    }
    EXPECT_GT(held, kChunks / 5);
    EXPECT_LT(held, kChunks / 2);
  }
  const GroupKeys all{keys_, 0};
  const Completion match = finish(client_->sdk().match_prefix(client_->ns(), {&all, 1}, {}));
  EXPECT_EQ(match.longest, kChunks) << match.status.to_string();
  const auto op = fetch_all(seconds(20));
  for (uint32_t layer = 0; layer < 8; ++layer) {
    EXPECT_TRUE(client_->sdk().wait_layer(*op, layer, seconds(20)).ok());
  }
  const Completion done = finish(op);
  ASSERT_TRUE(done.status.ok()) << done.status.to_string();
  EXPECT_EQ(done.bytes, kChunks * chunk_bytes_);
  for (uint32_t i = 0; i < kChunks; ++i) ASSERT_TRUE(is_right(i)) << i;
}

TEST_P(SeveralNodesTest, ANodeKilledInMidStreamCostsItsKeysOnly) {
  put_all();
  const uint64_t before = client_->sdk().statistics().bytes_verified;
  const auto op = fetch_all(seconds(10));
  until_verified(before + kChunks * chunk_bytes_ / 20);
  nodes_[1]->kill();
  const SystemClock clock;
  const Nanos killed = clock.now();
  const Completion done = finish(op);
  EXPECT_LT(clock.now() - killed, seconds(8)) << "nobody waits for the deadline";
  ASSERT_EQ(done.key_codes.size(), kChunks);
  uint32_t lost = 0;
  for (uint32_t i = 0; i < kChunks; ++i) {
    lost += done.key_codes[i] == StatusCode::kOk ? 0 : 1;
    if (owners_->owner(keys_[i]) != 1) {
      EXPECT_EQ(done.key_codes[i], StatusCode::kOk) << i;
    }
    if (done.key_codes[i] == StatusCode::kOk) {
      ASSERT_TRUE(is_right(i)) << i;
    }
  }
  EXPECT_GT(lost, 0u) << "it was killed too late to matter";
}

TEST_P(SeveralNodesTest, ANodeThatStopsAndDiesHasAllItsKeysCodedByTheDeadline) {
  put_all();
  nodes_[2]->signal(SIGSTOP);
  const uint64_t before = client_->sdk().statistics().bytes_verified;
  const auto op = fetch_all(seconds(6));
  until_verified(before + bytes_on(0) + bytes_on(1));
  nodes_[2]->kill();
  const Completion done = finish(op);
  EXPECT_LT(done.elapsed, seconds(8));
  EXPECT_EQ(done.status.code(), StatusCode::kUnavailable) << done.status.to_string();
  for (uint32_t i = 0; i < kChunks; ++i) {
    const bool lost = owners_->owner(keys_[i]) == 2;
    EXPECT_EQ(done.key_codes.at(i), lost ? StatusCode::kUnavailable : StatusCode::kOk) << i;
    EXPECT_TRUE(lost || is_right(i)) << i;
  }
  // The next one does not ask the dead node for long.
  const Completion again = finish(fetch_all(seconds(6)));
  EXPECT_LT(again.elapsed, seconds(8));
  for (uint32_t i = 0; i < kChunks; ++i) {
    if (owners_->owner(keys_[i]) != 2) {
      EXPECT_EQ(again.key_codes.at(i), StatusCode::kOk) << i;
    }
  }
}

TEST_P(SeveralNodesTest, ViewsOfSeveralNodesEndWithTheirNode) {
  if (GetParam() != DataPath::shm) GTEST_SKIP() << "views are of shared memory";
  put_all();
  const std::span<const ChunkKey> some = std::span(keys_).first(30);
  const Completion done = finish(client_->sdk().view(client_->ns(), some, {}));
  ASSERT_TRUE(done.status.ok()) << done.status.to_string();
  ASSERT_EQ(done.views.size(), some.size());
  for (uint32_t i = 0; i < some.size(); ++i) {
    std::vector<std::byte> seen;
    for (const ViewedSection& section : done.views[i].sections) {
      for (const auto piece : section.pieces) seen.insert(seen.end(), piece.begin(), piece.end());
    }
    EXPECT_TRUE(client_->sdk().view_valid(done.views[i].id));
    EXPECT_TRUE(client_->sdk().verify(done.views[i].id).ok());
    std::vector<std::byte> wanted(chunk_bytes_);
    Prng(i + 1).fill(wanted);
    EXPECT_TRUE(seen == wanted) << i;
  }
  nodes_[0]->kill();
  const SystemClock clock;
  for (const Nanos end = clock.now() + seconds(10);
       clock.now() < end && client_->sdk().nodes().at(0).up;) {
  }
  for (uint32_t i = 0; i < some.size(); ++i) {
    EXPECT_EQ(client_->sdk().view_valid(done.views[i].id), owners_->owner(some[i]) != 0) << i;
    client_->sdk().release_view(done.views[i].id);
  }
}

INSTANTIATE_TEST_SUITE_P(Paths, SeveralNodesTest, testing::Values(DataPath::tcp, DataPath::shm),
                         name_of_path);
}  // namespace
}  // namespace terrace::e2e
