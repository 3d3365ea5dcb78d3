// client/client_fixture.h - for tests: a client, a FakeNode, and memory with guard bytes.
#pragma once
#include <gtest/gtest.h>

#include "base/prng.h"
#include "client/fake_node.h"
#include "client/terrace.h"

namespace terrace {

class ClientFixture : public ::testing::Test {
 protected:
  static constexpr std::byte kGuard{0xA5};
  static constexpr uint64_t kMemoryBytes = 16 << 20;

  void SetUp() override {
    node_ = std::make_unique<FakeNode>();
    control_ = std::make_shared<FakeControl::Shared>();
    control_->node = node_.get();
    open({});
  }
  void TearDown() override {
    client_.reset();  // before the memory
    node_.reset();
  }
  void open(ClientConfig config) {
    memory_.assign(kMemoryBytes, kGuard);
    auto client = Client::open(config, FakeControl::channels({&control_, 1}));
    ASSERT_TRUE(client.ok()) << client.status().to_string();
    client_ = *std::move(client);
    region_ = *client_->register_memory(memory_);
    Fingerprint raw;
    raw.model_id = "raw";
    ns_ = *client_->open_namespace("raw", raw);
  }

  static ChunkKey key_of(uint64_t number) {
    ChunkKey key;
    Prng(number).fill(key.digest);
    return key;
  }
  static std::vector<std::byte> content(uint64_t number, uint64_t bytes) {
    std::vector<std::byte> out(bytes);
    Prng(number * 31 + 7).fill(out);
    return out;
  }
  /// One object in the node, and its content.
  std::vector<std::byte> stored(uint64_t number, uint64_t bytes) {
    node_->add(key_of(number), content(number, bytes));
    return content(number, bytes);
  }
  StatusOr<OpId> fetch(uint64_t number, uint64_t bytes, uint64_t offset,
                       FetchOptions options = {}) {
    const Fragment whole{0, region_, offset, bytes};
    const FetchItem item{key_of(number), {&whole, 1}};
    return client_->fetch(ns_, {&item, 1}, options);
  }
  StatusOr<OpId> put(uint64_t number, uint64_t bytes, uint64_t offset, PutOptions options = {}) {
    const std::vector<std::byte> from = content(number, bytes);
    std::copy(from.begin(), from.end(), memory_.begin() + static_cast<ptrdiff_t>(offset));
    const SectionSpec section{SectionKind::raw, Codec::identity, 0, bytes};
    const Fragment whole{0, region_, offset, bytes};
    PutItem item;
    item.key = key_of(number);
    item.sections = {&section, 1};
    item.fragments = {&whole, 1};
    return client_->put(ns_, {&item, 1}, options);
  }
  Completion finish(const StatusOr<OpId>& op) {
    EXPECT_TRUE(op.ok()) << op.status().to_string();
    if (!op.ok()) return {};
    auto done = client_->wait(*op, std::chrono::seconds(15));
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

  std::unique_ptr<FakeNode> node_;
  std::shared_ptr<FakeControl::Shared> control_;
  std::unique_ptr<Client> client_;
  std::vector<std::byte> memory_;
  RegionId region_{};
  NamespaceId ns_{};
};
}  // namespace terrace
