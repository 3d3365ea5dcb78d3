// Goal: device memory that is kept for one domain holds that domain's objects only; a view of it
// says where the object's bytes are, and they stay there while it is held; what is lent is called
// back when it must be, and waited for. Method: a store on the simulated accelerator, whose memory
// is read where the view says, as a process that opened it would.
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "storage/chunk_store.h"
#include "storage/tier_pass.h"
#include "tests/sim/hbm_fixture.h"

namespace terrace {
namespace {
using testing::TestObject;
using testing::Waiting;

constexpr DomainId kOurs{1};
constexpr DomainId kOthers{2};
constexpr NamespaceId kOtherNamespace{2};

class HbmLendTest : public testing::HbmFixture {
 protected:
  HbmLendTest() {
    world_->config.dram_bytes = 8 * kMiB;
    world_->config.slab_bytes = 4 * kMiB;  // one for each domain
    world_->config.staging_bytes = 32 * kMiB;
    EXPECT_TRUE(world_->start().ok());
    world_->store->assign_domain(ns(), kOurs);
    world_->store->assign_domain(kOtherNamespace, kOthers);
    world_->store->on_device_recall([this](uint64_t loan) { called_back_.push_back(loan); });
    world_->store->on_quarantine([this](const ChunkKey& key) { condemned_.push_back(key); });
  }
  ~HbmLendTest() override {
    world_->store->on_device_recall(nullptr);
    world_->store->on_quarantine(nullptr);
    world_->stop();
  }
  bool in_hbm(const TestObject& object) const { return is_in(Tier::hbm, object); }
  void put_in_hbm(const TestObject& object) {
    put_and_use(object);
    ASSERT_TRUE(in_hbm(object));
  }
  StatusOr<DeviceView> view(const TestObject& object) {
    ChunkReader reader;
    TERRACE_RETURN_IF_ERROR(open(object, &reader));
    return world_->store->device_view(reader);
  }
  /// What a process that has the memory open sees there.
  std::vector<std::byte> seen(const DeviceView& view) {
    std::vector<std::byte> out;
    for (const DeviceView::Piece& piece : view.pieces) {
      const auto from = sim_->memory().begin() + static_cast<int64_t>(piece.offset);
      out.insert(out.end(), from, from + static_cast<int64_t>(piece.bytes));
    }
    return out;
  }
  static std::vector<std::byte> content(const TestObject& object) {
    std::vector<std::byte> out;
    for (uint32_t s = 0; s < object.section_bytes.size(); ++s) {
      const std::vector<std::byte> section = object.section(s);
      out.insert(out.end(), section.begin(), section.end());
    }
    return out;
  }
  std::shared_ptr<ResizePass> resize(uint64_t bytes) {
    const auto pass = std::make_shared<ResizePass>();
    pass->tier = Tier::hbm;
    pass->target = bytes;
    EXPECT_TRUE(world_->store->resize(pass).ok());
    return pass;
  }

  std::vector<uint64_t> called_back_;
  std::vector<ChunkKey> condemned_;
};

TEST_F(HbmLendTest, memory_of_all_is_lent_to_nobody) {
  const TestObject object(1);
  put_in_hbm(object);
  const auto shown = view(object);
  EXPECT_EQ(shown.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(shown.status().message().find("hbm-tenant"), std::string::npos);
}

TEST_F(HbmLendTest, what_is_kept_for_one_domain_never_holds_a_byte_of_another) {
  world_->store->keep_hbm_for(kOthers);
  const TestObject ours(1, {30'000});
  ASSERT_TRUE(world_->driver->put(ours, Durability::nvme).ok());
  use(ours);
  EXPECT_FALSE(in_hbm(ours));
  EXPECT_EQ(view(ours).status().code(), StatusCode::kFailedPrecondition);
  const TestObject theirs(2);
  PutSpec spec = world_->driver->spec_of(theirs, Durability::nvme);
  spec.ns = kOtherNamespace;
  const Status put = world_->driver->put(theirs, std::move(spec));
  ASSERT_TRUE(put.ok()) << put.to_string();
  world_->store->touch(kOtherNamespace, {&theirs.key, 1});
  turn(20);
  const auto found = world_->store->find(kOtherNamespace, theirs.key);
  ASSERT_TRUE(found);
  EXPECT_NE(found->tiers & mask_of(Tier::hbm), 0);
  const std::vector<std::byte> bytes = content(ours);
  const std::vector<std::byte>& all = sim_->memory();
  EXPECT_EQ(std::search(all.begin(), all.end(), bytes.begin(), bytes.begin() + 64), all.end());
}

TEST_F(HbmLendTest, a_view_says_where_every_byte_is) {
  world_->store->keep_hbm_for(kOurs);
  for (uint64_t n = 1; n < 12; ++n) {
    const TestObject object(n);
    put_in_hbm(object);
    const auto shown = view(object);
    ASSERT_TRUE(shown.ok()) << shown.status().to_string();
    EXPECT_EQ(seen(*shown), content(object)) << n;
    EXPECT_EQ(shown->loan->bytes, 4 * kMiB);
    uint64_t section = 0, left = object.section_bytes[0];
    for (const DeviceView::Piece& piece : shown->pieces) {  // none lies in two sections
      ASSERT_LE(piece.bytes, left);
      left -= piece.bytes;
      if (left == 0 && ++section < object.section_bytes.size()) {
        left = object.section_bytes[section];
      }
    }
  }
}

TEST_F(HbmLendTest, bytes_in_view_stay_whatever_comes_and_goes) {
  world_->store->keep_hbm_for(kOurs);
  const TestObject object(1, {700'000});
  put_in_hbm(object);
  std::optional<DeviceView> shown = *view(object);
  ASSERT_TRUE(world_->driver->erase(object).ok());
  const auto used = [this] { return world_->store->tier_use(Tier::hbm).used; };
  EXPECT_GT(used(), 0u);
  for (uint64_t n = 100; n < 160; ++n) {
    const TestObject other(n, {300'000});
    ASSERT_TRUE(world_->driver->put(other, Durability::nvme).ok());
    use(other);
    use(other);
  }
  EXPECT_GT(world_->store->metrics().writes[static_cast<size_t>(Tier::hbm)].get(), 10u);
  EXPECT_EQ(seen(*shown), content(object));
  const uint64_t before = used();
  shown.reset();
  EXPECT_LT(used(), before);
}

TEST_F(HbmLendTest, a_resize_calls_back_what_is_lent_and_waits_for_it) {
  world_->store->keep_hbm_for(kOurs);
  const TestObject object(1);
  put_in_hbm(object);
  std::optional<DeviceView> shown = *view(object);
  std::shared_ptr<const DeviceLoan> open = shown->loan;
  const auto pass = resize(8 * kMiB);
  EXPECT_EQ(called_back_, std::vector<uint64_t>{open->id});
  turn(20);
  EXPECT_FALSE(pass->over);
  EXPECT_GT(pass->to_leave, 0u);
  EXPECT_EQ(view(object).status().code(), StatusCode::kFailedPrecondition) << "none anew meanwhile";
  EXPECT_EQ(seen(*shown), content(object)) << "a reader may be in the middle of it";
  shown.reset();
  turn(20);
  EXPECT_FALSE(pass->over) << "the client has not closed it";
  const uint64_t first = open->id;
  open.reset();
  ASSERT_TRUE(world_->driver->until([&] { return pass->over; }));
  EXPECT_TRUE(pass->result.ok()) << pass->result.to_string();
  use(object);
  const auto again = view(object);
  ASSERT_TRUE(again.ok()) << again.status().to_string();
  EXPECT_NE(again->loan->id, first);
  EXPECT_EQ(again->loan->bytes, 8 * kMiB);
  EXPECT_EQ(seen(*again), content(object));
}

TEST_F(HbmLendTest, a_resize_that_is_called_off_while_it_waits_changes_nothing) {
  world_->store->keep_hbm_for(kOurs);
  const TestObject object(1);
  put_in_hbm(object);
  const DeviceView shown = *view(object);
  const auto pass = resize(8 * kMiB);
  turn(5);
  pass->cancelled = true;
  ASSERT_TRUE(world_->driver->until([&] { return pass->over; }));
  EXPECT_EQ(pass->result.code(), StatusCode::kCancelled);
  EXPECT_EQ(world_->store->tier_use(Tier::hbm).capacity, 4 * kMiB);
  use(object);
  const auto again = view(object);
  ASSERT_TRUE(again.ok()) << again.status().to_string();
  EXPECT_NE(again->loan->id, shown.loan->id) << "the first is on its way back";
  EXPECT_EQ(seen(*again), content(object));
}

TEST_F(HbmLendTest, a_rotten_copy_and_a_failing_device_end_views) {
  world_->store->keep_hbm_for(kOurs);
  const TestObject object(1, {30'000});
  put_in_hbm(object);
  const DeviceView shown = *view(object);
  for (std::byte& each : sim_->memory()) each ^= std::byte{1};
  sink(object);
  EXPECT_TRUE(world_->driver->get(object).ok());
  EXPECT_EQ(condemned_, std::vector<ChunkKey>{object.key});
  EXPECT_TRUE(called_back_.empty());
  sim_->fail(100);
  for (uint64_t n = 2000; n < 2005; ++n) {
    const TestObject other(n);
    ASSERT_TRUE(world_->driver->put(other, Durability::memory).ok());
    use(other);
  }
  EXPECT_FALSE(world_->store->hbm_works());
  EXPECT_EQ(called_back_, std::vector<uint64_t>{shown.loan->id});
  EXPECT_EQ(view(object).status().code(), StatusCode::kFailedPrecondition);
}

TEST_F(HbmLendTest, rot_found_while_a_copy_is_on_its_way_does_not_arrive) {
  world_->store->keep_hbm_for(kOurs);
  const TestObject object(1, {30'000});
  ASSERT_TRUE(world_->driver->put(object, Durability::nvme).ok());
  turn(20);
  std::byte* bytes = nullptr;
  std::byte* header = nullptr;
  {
    ChunkReader reader;
    ASSERT_TRUE(open(object, &reader).ok());
    std::vector<iovec> memory;
    ASSERT_TRUE(world_->store->resident(reader, 0, &memory));
    bytes = static_cast<std::byte*>(memory.at(0).iov_base);
    header = bytes - reader.layout().section_offset(0);
  }
  sim_->hang();
  world_->store->touch(ns(), {&object.key, 1});
  ASSERT_EQ(sim_->waiting(), 1u);
  bytes[100] ^= std::byte{1};
  header[40] ^= std::byte{1};  // so that opening it finds out
  {
    ChunkReader reader;
    EXPECT_TRUE(open(object, &reader).ok()) << "from nvme";
  }
  EXPECT_EQ(condemned_, std::vector<ChunkKey>{object.key});
  header[40] ^= std::byte{1};
  sim_->release();
  turn(20);
  EXPECT_FALSE(in_hbm(object));
}

TEST_F(HbmLendTest, rot_that_is_seen_after_the_copy_was_dropped_ends_views_all_the_same) {
  world_->store->keep_hbm_for(kOurs);
  const TestObject object(1, {30'000, 30'000});
  put_in_hbm(object);
  const DeviceView shown = *view(object);
  sink(object);
  ASSERT_TRUE(in_hbm(object));
  ChunkReader reader;
  ASSERT_TRUE(open(object, &reader).ok());
  for (std::byte& each : sim_->memory()) each ^= std::byte{1};
  sim_->fail(1);
  ReadBuffer first, second;
  Waiting first_read, second_read;
  ASSERT_TRUE(world_->store->read(&reader, 0, 0, 1, &first, &first_read).ok());
  ASSERT_TRUE(world_->store->read(&reader, 1, 0, 1, &second, &second_read).ok());
  ASSERT_EQ(sim_->waiting(), 2u);
  EXPECT_TRUE(world_->driver->wait(&first_read).ok());
  EXPECT_TRUE(world_->driver->wait(&second_read).ok());
  EXPECT_EQ(condemned_, std::vector<ChunkKey>{object.key});
  EXPECT_EQ(world_->store->metrics().crc_failures_hbm.get(), 1u);
}
}  // namespace
}  // namespace terrace
