// Goal: tenants share the dram tier fairly and never a slab: a flood of one leaves the others their
// share, and memory that a client of one could map never holds bytes of another. Method: several
// sharing domains put and read on a store of four small slabs whose memory a thread replaces; every
// slab is exported and mapped while it is somebody's, and looked at afterwards.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <thread>

#include "base/limits.h"
#include "storage/chunk_store.h"
#include "tests/sim/store_driver.h"

namespace terrace {
namespace {
using testing::StoreDriver;
using testing::TestObject;
using testing::Waiting;
constexpr auto kDram = static_cast<size_t>(Tier::dram);

class DomainTest : public ::testing::Test {
 protected:
  void SetUp() override {
    config_.dram_bytes = 16 * kMiB;
    config_.slab_bytes = 4 * kMiB;
    loop_ = *Loop::create({.ring_entries = 64}, &clock_);
    StatusOr<std::unique_ptr<ChunkStore>> store =
        ChunkStore::open(config_, loop_.get(), {}, nullptr);
    ASSERT_TRUE(store.ok()) << store.status().to_string();
    store_ = std::move(*store);
    driver_ = std::make_unique<StoreDriver>(store_.get(), [this] {
      turn();
      return true;
    });
    store_->on_slab_memory([this](uint32_t slab, std::span<std::byte> memory, bool present) {
      EXPECT_EQ(memory.size(), 4 * kMiB);
      ++told_;
      if (present) {
        EXPECT_TRUE(present_.emplace(slab, memory.data()).second);
      } else {
        EXPECT_EQ(present_.erase(slab), 1u);
      }
    });
    ASSERT_TRUE(driver_->until([this] { return present_.size() == 4; }));
  }
  void TearDown() override {
    EXPECT_TRUE(driver_->close().ok());
    driver_.reset();
    store_.reset();
    for (const Mapped& each : mapped_) ::munmap(each.at, 4 * kMiB);
  }
  void turn() {
    clock_.advance(microseconds(500));
    loop_->turn(Nanos(0));
    std::this_thread::yield();
  }
  void assign(uint32_t ns, uint32_t domain) {
    store_->assign_domain(NamespaceId{ns}, DomainId{domain});
  }

  /// As a put over shared memory: checks whose slabs the bytes go to, and has each of them mapped.
  Status put(uint32_t ns, uint32_t domain, const TestObject& object) {
    driver_->ns = NamespaceId{ns};
    ChunkWriter writer;
    Waiting opened;
    const PutSpec spec = driver_->spec_of(object, Durability::memory);
    TERRACE_RETURN_IF_ERROR(store_->open_writer(spec, &writer, &opened));
    TERRACE_RETURN_IF_ERROR(driver_->wait(&opened));
    for (uint32_t s = 0; s < object.section_bytes.size(); ++s) {
      for (const iovec& run : store_->memory(&writer, s, 0, object.section_bytes[s])) {
        check(run, domain);
      }
    }
    TERRACE_RETURN_IF_ERROR(driver_->fill(&writer, object));
    Waiting committed;
    TERRACE_RETURN_IF_ERROR(store_->commit(&writer, &committed));
    return driver_->wait(&committed);
  }
  /// Until there is room.
  void put_patiently(uint32_t ns, uint32_t domain, const TestObject& object) {
    Status status;
    for (int i = 0; i < 2000; ++i) {
      status = put(ns, domain, object);
      if (status.ok()) return;
      ASSERT_EQ(status.code(), StatusCode::kResourceExhausted) << status.to_string();
      for (int turns = 0; turns < 20; ++turns) turn();
    }
    FAIL() << status.to_string();
  }
  void check(const iovec& run, uint32_t domain) {
    const auto* const bytes = static_cast<const std::byte*>(run.iov_base);
    const auto first = store_->place_of(bytes);
    const auto last = store_->place_of(bytes + run.iov_len - 1);
    ASSERT_TRUE(first && last);
    for (const SlabPlace& place : {*first, *last}) {
      EXPECT_EQ(place.domain, DomainId{domain});
      EXPECT_EQ(present_.at(place.slab) + place.offset,
                place == *first ? bytes : bytes + run.iov_len - 1);
      const auto [it, fresh] = exported_.try_emplace({place.slab, place.epoch}, domain);
      EXPECT_EQ(it->second, domain) << "slab " << place.slab << " epoch " << place.epoch;
      if (fresh) map(place.slab, domain);
    }
  }
  void map(uint32_t slab, uint32_t domain) {
    StatusOr<SlabDescriptor> out = store_->export_slab(slab);
    ASSERT_TRUE(out.ok()) << out.status().to_string();
    void* const at = ::mmap(nullptr, out->bytes, PROT_READ, MAP_SHARED, out->fd.get(),
                            static_cast<off_t>(out->file_offset));
    ASSERT_NE(at, MAP_FAILED);
    mapped_.push_back({at, domain});
  }
  /// Whether a client of `domain` can see the object's first bytes.
  bool sees(uint32_t domain, const TestObject& object) {
    std::vector<std::byte> bytes = object.section(0);
    bytes.resize(std::min<size_t>(64, bytes.size()));
    return std::any_of(mapped_.begin(), mapped_.end(), [&](const Mapped& each) {
      return each.domain == domain &&
             ::memmem(each.at, 4 * kMiB, bytes.data(), bytes.size()) != nullptr;
    });
  }
  bool there(uint32_t ns, const TestObject& object) {
    return store_->find(NamespaceId{ns}, object.key).has_value();
  }
  uint64_t replaced() const { return store_->metrics().slabs_replaced.get(); }

  struct Mapped {
    void* at;
    uint32_t domain;
  };
  ManualClock clock_;
  StoreConfig config_;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<ChunkStore> store_;
  std::unique_ptr<StoreDriver> driver_;
  std::map<uint32_t, std::byte*> present_;
  int told_ = 0;
  std::map<std::pair<uint32_t, uint64_t>, uint32_t> exported_;  // (slab, epoch) -> domain
  std::vector<Mapped> mapped_;
};

TestObject object_of(uint64_t n, uint64_t bytes = 300'000) {
  return TestObject(n, {bytes});
}

TEST_F(DomainTest, a_flood_leaves_the_others_their_share) {
  assign(1, 1);
  assign(2, 2);
  for (uint64_t i = 0; i < 100; ++i) {
    ASSERT_TRUE(put(1, 1, object_of(i)).ok()) << "alone it has all of dram";
  }
  EXPECT_EQ(exported_.size(), 4u);
  EXPECT_EQ(replaced(), 0u);
  uint64_t n = 0;  // of the second; the first is 100 ahead
  const auto both_put = [&](uint64_t until) {
    for (; n < until; ++n) {
      put_patiently(2, 2, object_of(10'000 + n));
      put_patiently(1, 1, object_of(100 + n));
    }
  };
  both_put(100);
  ASSERT_TRUE(driver_->until([this] { return replaced() == 2; }));
  both_put(200);
  EXPECT_EQ(replaced(), 2u) << "half of the slabs, once";
  uint64_t of_first = 0, of_second = 0;
  for (uint64_t i = 0; i < 300; ++i) of_first += there(1, object_of(i)) ? 1 : 0;
  for (uint64_t i = 0; i < 200; ++i) of_second += there(2, object_of(10'000 + i)) ? 1 : 0;
  EXPECT_GE(of_first, 20u) << "of 8 MiB";
  EXPECT_GE(of_second, 20u);
  EXPECT_TRUE(there(1, object_of(299)) && there(2, object_of(10'199))) << "the youngest";
  for (uint64_t i = 0; i < 200; ++i) {
    EXPECT_FALSE(sees(1, object_of(10'000 + i))) << "a client of 1 maps what was its own";
    EXPECT_FALSE(sees(2, object_of(100 + i)));
  }
  EXPECT_TRUE(sees(1, object_of(299)) && sees(2, object_of(10'199)));
  EXPECT_EQ(told_, 4 + 2 * 2);
  EXPECT_TRUE(store_->staging_memory().empty());
  (void)store_->tier_use(Tier::dram);  // brings the gauges up to date
  EXPECT_EQ(store_->metrics().slabs_owned.get(), 4u);
  EXPECT_EQ(store_->metrics().slab_domains.get(), 2u);
}

TEST_F(DomainTest, a_domain_with_room_loses_nothing_to_one_without) {
  assign(1, 1);
  assign(2, 2);
  for (uint64_t n = 0; n < 3; ++n) ASSERT_TRUE(put(2, 2, object_of(1000 + n)).ok());
  for (uint64_t n = 0; n < 200; ++n) put_patiently(1, 1, object_of(n));
  for (uint64_t n = 0; n < 3; ++n) EXPECT_TRUE(there(2, object_of(1000 + n)));
  EXPECT_EQ(replaced(), 0u);
  EXPECT_GT(store_->metrics().evictions[kDram].get(), 100u) << "of its own";
}

TEST_F(DomainTest, namespaces_of_a_tenant_share_slabs_and_others_do_not) {
  assign(1, 7);
  assign(2, 7);
  ASSERT_TRUE(put(1, 7, object_of(1)).ok());
  ASSERT_TRUE(put(2, 7, object_of(2)).ok());
  EXPECT_EQ(exported_.size(), 1u);
  for (uint32_t ns : {3u, 4u}) {  // assigned to nobody: on their own
    ASSERT_TRUE(put(ns, static_cast<uint32_t>(own_domain_of(NamespaceId{ns})), object_of(ns)).ok());
  }
  EXPECT_EQ(exported_.size(), 3u);
  ASSERT_TRUE(put(1, 7, object_of(5, 4 * kMiB)).ok()) << "over its slab and the one of nobody";
  EXPECT_EQ(exported_.size(), 4u);
  for (uint32_t ns = 1; ns <= 4; ++ns) {
    driver_->ns = NamespaceId{ns};
    EXPECT_TRUE(driver_->get(object_of(ns)).ok());
  }
}

TEST_F(DomainTest, more_tenants_than_slabs_take_turns_when_they_rest) {
  for (uint32_t d = 1; d <= 6; ++d) assign(d, d);
  for (uint32_t d = 1; d <= 4; ++d) put_patiently(d, d, object_of(d));
  const Status refused = put(5, 5, object_of(5));
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  for (const std::string& word :
       {object_of(5).key.hex(), std::string("4 slabs"), std::string("slab_bytes")}) {
    EXPECT_NE(refused.message().find(word), std::string::npos) << refused.to_string();
  }
  for (int i = 0; i < 200; ++i) turn();
  EXPECT_EQ(replaced(), 0u);
  clock_.advance(seconds(6));
  for (uint32_t d = 2; d <= 4; ++d) store_->touch(NamespaceId{d}, {});
  clock_.advance(seconds(6));
  put_patiently(5, 5, object_of(5));
  EXPECT_FALSE(there(1, object_of(1))) << "it rested longest";
  for (uint32_t d = 2; d <= 4; ++d) EXPECT_TRUE(there(d, object_of(d)));
  EXPECT_EQ(replaced(), 1u);
}

TEST_F(DomainTest, an_empty_slab_goes_to_who_needs_it) {
  assign(1, 1);
  assign(2, 2);
  for (uint64_t n = 0; n < 30; ++n) ASSERT_TRUE(put(1, 1, object_of(n)).ok());
  for (uint64_t n = 0; n < 30; ++n) ASSERT_TRUE(driver_->erase(object_of(n)).ok());
  for (uint64_t n = 0; n < 60; ++n) put_patiently(2, 2, object_of(1000 + n));
  ASSERT_TRUE(driver_->until([this] { return replaced() == 1; })) << "two each";
  clock_.advance(seconds(11));
  for (uint64_t n = 0; n < 20'000 && replaced() < 3; ++n) put_patiently(2, 2, object_of(2000 + n));
  EXPECT_EQ(replaced(), 3u) << "all of them";
  EXPECT_EQ(store_->metrics().slab_moves_given_up.get(), 0u);
}

TEST_F(DomainTest, objects_in_use_stay_and_hold_their_slab) {
  assign(1, 1);
  assign(2, 2);
  std::vector<Pin> pins;
  for (uint64_t n = 0; n < 44; ++n) {
    ASSERT_TRUE(put(1, 1, object_of(n)).ok());
    StatusOr<Pin> pin = store_->pin(NamespaceId{1}, object_of(n).key);
    ASSERT_TRUE(pin.ok());
    pins.push_back(std::move(*pin));
  }
  ASSERT_EQ(exported_.size(), 4u);
  for (int i = 0; i < 100 && store_->metrics().slab_moves_given_up.get() < 2; ++i) {
    EXPECT_EQ(put(2, 2, object_of(1000)).code(), StatusCode::kResourceExhausted);
    clock_.advance(seconds(1));
    for (int turns = 0; turns < 20; ++turns) turn();
  }
  EXPECT_GE(store_->metrics().slab_moves_given_up.get(), 2u);
  EXPECT_EQ(replaced(), 0u);
  driver_->ns = NamespaceId{1};
  for (uint64_t n = 0; n < 44; ++n) EXPECT_TRUE(driver_->get(object_of(n)).ok());
  pins.clear();
  clock_.advance(seconds(31));
  put_patiently(2, 2, object_of(1000));
  EXPECT_GE(replaced(), 1u);
}

TEST_F(DomainTest, closes_while_slabs_move) {
  assign(1, 1);
  assign(2, 2);
  for (uint64_t n = 0; n < 60; ++n) ASSERT_TRUE(put(1, 1, object_of(n)).ok());
  EXPECT_EQ(put(2, 2, object_of(1000)).code(), StatusCode::kResourceExhausted);
  for (int i = 0; i < 3; ++i) turn();
}
}  // namespace
}  // namespace terrace
