// client/nodes_fixture.h - for tests: a client of three FakeNodes, and objects where they belong.
#pragma once
#include <array>

#include "base/rendezvous.h"
#include "client/fake_node.h"
#include "client/sdk_fixture.h"

namespace terrace {

class NodesFixture : public SdkFixture {
 protected:
  using milliseconds = std::chrono::milliseconds;
  using seconds = std::chrono::seconds;
  using Fault = FakeNode::Fault;
  static constexpr uint32_t kNodes = 3;
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
  void TearDown() override { client_.reset(); }  // before the nodes
  void open() {
    memory_.assign(kMemoryBytes, kGuard);
    auto client = Client::open(config_, FakeControl::channels(controls_));
    ASSERT_TRUE(client.ok()) << client.status().to_string();
    use_client(*std::move(client));
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
  ClientConfig config_;
  const Rendezvous owners_{std::vector<std::string>{"a:1", "b:2", "c:3"}};
  std::array<std::unique_ptr<FakeNode>, kNodes> nodes_;
  std::array<std::shared_ptr<FakeControl::Shared>, kNodes> controls_;
};
}  // namespace terrace
