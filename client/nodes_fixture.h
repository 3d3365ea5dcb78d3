// client/nodes_fixture.h - for tests: a client of three FakeNodes, and objects where they belong.
#pragma once
#include <gtest/gtest.h>

#include <array>

#include "base/prng.h"
#include "base/rendezvous.h"
#include "client/fake_node.h"
#include "client/terrace.h"

namespace terrace {

class NodesFixture : public ::testing::Test {
 protected:
  using milliseconds = std::chrono::milliseconds;
  using seconds = std::chrono::seconds;
  using Fault = FakeNode::Fault;
  static constexpr uint32_t kNodes = 3;
  static constexpr std::byte kGuard{0xA5};
  static constexpr uint64_t kMemoryBytes = 32 << 20;

  void SetUp() override {
    for (uint32_t n = 0; n < kNodes; ++n) {
      nodes_[n] = std::make_unique<FakeNode>();
      controls_[n] = std::make_shared<FakeControl::Shared>();
      controls_[n]->node = nodes_[n].get();
    }
    config_.endpoints = {"a:1", "b:2", "c:3"};
    open();
  }
  void TearDown() override { client_.reset(); }
  void open() {
    memory_.assign(kMemoryBytes, kGuard);
    auto client = Client::open(config_, FakeControl::channels(controls_));
    ASSERT_TRUE(client.ok()) << client.status().to_string();
    client_ = *std::move(client);
    region_ = *client_->register_memory(memory_);
    Fingerprint raw;
    raw.model_id = "raw";
    const auto ns = client_->open_namespace("raw", raw);
    ASSERT_TRUE(ns.ok()) << ns.status().to_string();
    ns_ = *ns;
  }
  /// From now on nobody listens at this node.
  void kill(uint32_t node) {
    unlist(node);
    nodes_[node]->drop_peers();
  }
  void unlist(uint32_t node) {
    const std::lock_guard lock(controls_[node]->mutex);
    controls_[node]->node = nullptr;
  }
  void revive(uint32_t node) {
    const std::lock_guard lock(controls_[node]->mutex);
    controls_[node]->node = nodes_[node].get();
  }
  /// Waits until the client holds this node for up, or for gone.
  bool until(uint32_t node, bool up) const {
    const SystemClock clock;
    for (const Nanos end = clock.now() + seconds(15); clock.now() < end;) {
      if (client_->nodes().at(node).up == up) return true;
    }
    return false;
  }

  static ChunkKey key_of(uint64_t number) {
    ChunkKey key;
    Prng(number).fill(key.digest);
    return key;
  }
  static std::vector<ChunkKey> keys_of(const std::vector<uint64_t>& numbers) {
    std::vector<ChunkKey> keys;
    for (const uint64_t number : numbers) keys.push_back(key_of(number));
    return keys;
  }
  uint32_t owner(uint64_t number) const { return owners_.owner(key_of(number)); }
  /// The first `count` numbers from `first` on whose keys lie on this node.
  std::vector<uint64_t> numbers_on(uint32_t node, size_t count, uint64_t first = 0) const {
    std::vector<uint64_t> numbers;
    for (; numbers.size() < count; ++first) {
      if (owner(first) == node) numbers.push_back(first);
    }
    return numbers;
  }
  static std::vector<std::byte> content(uint64_t number, uint64_t bytes) {
    std::vector<std::byte> out(bytes);
    Prng(number * 31 + 7).fill(out);
    return out;
  }
  void store(uint64_t number, uint64_t bytes) {
    nodes_[owner(number)]->add(key_of(number), content(number, bytes));
  }
  /// Objects of `bytes` each, one after the other in memory.
  StatusOr<OpId> fetch(const std::vector<uint64_t>& numbers, uint64_t bytes,
                       FetchOptions options = {}, NamespaceId ns = NamespaceId{0}) {
    std::vector<Fragment> places;
    std::vector<FetchItem> items(numbers.size());
    for (size_t i = 0; i < numbers.size(); ++i) places.push_back({0, region_, i * bytes, bytes});
    for (size_t i = 0; i < numbers.size(); ++i) {
      items[i] = {};
      items[i].key = key_of(numbers[i]);
      items[i].fragments = {&places[i], 1};
    }
    return client_->fetch(ns == NamespaceId{0} ? ns_ : ns, items, options);
  }
  Completion finish(const StatusOr<OpId>& op) {
    EXPECT_TRUE(op.ok()) << op.status().to_string();
    if (!op.ok()) return {};
    auto done = client_->wait(*op, seconds(15));
    EXPECT_TRUE(done.ok()) << done.status().to_string();
    return done.ok() ? *std::move(done) : Completion{};
  }
  bool memory_is(uint64_t offset, const std::vector<std::byte>& expected) const {
    return std::equal(expected.begin(), expected.end(),
                      memory_.begin() + static_cast<ptrdiff_t>(offset));
  }
  bool guarded(uint64_t begin, uint64_t end) const {
    return std::all_of(memory_.begin() + static_cast<ptrdiff_t>(begin),
                       memory_.begin() + static_cast<ptrdiff_t>(end),
                       [](std::byte b) { return b == kGuard; });
  }

  ClientConfig config_;
  const Rendezvous owners_{std::vector<std::string>{"a:1", "b:2", "c:3"}};
  std::array<std::unique_ptr<FakeNode>, kNodes> nodes_;
  std::array<std::shared_ptr<FakeControl::Shared>, kNodes> controls_;
  std::unique_ptr<Client> client_;  // goes before the memory and the nodes
  std::vector<std::byte> memory_;
  RegionId region_{};
  NamespaceId ns_{};
};
}  // namespace terrace
