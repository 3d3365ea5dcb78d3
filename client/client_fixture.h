// client/client_fixture.h - for tests: a client, a FakeNode, and memory with guard bytes.
#pragma once
#include "client/fake_node.h"
#include "client/sdk_fixture.h"

namespace terrace {

class ClientFixture : public SdkFixture {
 protected:
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
    use_client(*std::move(client));
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
  std::unique_ptr<FakeNode> node_;
  std::shared_ptr<FakeControl::Shared> control_;
};
}  // namespace terrace
