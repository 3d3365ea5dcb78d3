// client/sdk_fixture.h - for tests: what they do with a client, however many nodes it speaks to,
// and memory with guard bytes.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "base/prng.h"
#include "client/terrace.h"

namespace terrace {

class SdkFixture : public ::testing::Test {
 protected:
  static constexpr std::byte kGuard{0xA5};

  /// Its namespace is "raw", its region memory_. Who made it takes it down, before the nodes.
  void use_client(std::unique_ptr<Client> client) {
    client_ = std::move(client);
    region_ = *client_->register_memory(memory_);
    Fingerprint raw;
    raw.model_id = "raw";
    const auto ns = client_->open_namespace("raw", raw);
    ASSERT_TRUE(ns.ok()) << ns.status().to_string();
    ns_ = *ns;
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
  /// Objects 0 .. items - 1 in one put, one every `stride` bytes of memory, which is random.
  StatusOr<OpId> put_all(uint32_t items, uint32_t sections, uint64_t section_bytes, uint64_t stride,
                         const PutOptions& options) {
    const std::vector<SectionSpec> table(sections,
                                         {SectionKind::raw, Codec::identity, 0, section_bytes});
    Prng(5).fill(memory_);
    std::vector<Fragment> fragments;
    std::vector<PutItem> put(items);
    for (uint32_t i = 0; i < items; ++i) {
      fragments.push_back({0, region_, i * stride, sections * section_bytes});
    }
    for (uint32_t i = 0; i < items; ++i) {
      put[i].key = key_of(i);
      put[i].sections = table;
      put[i].fragments = {&fragments[i], 1};
    }
    return client_->put(ns_, put, options);
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

  std::unique_ptr<Client> client_;
  std::vector<std::byte> memory_;
  RegionId region_{};
  NamespaceId ns_{};
};
}  // namespace terrace
