// Goal: device memory of a node is opened once, closed when the node wants it back and nobody reads
// it any more, and then given back, once. Method: an accelerator that counts what is open.
#include "client/device_memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace terrace {
namespace {

constexpr PeerId kNode{7};
constexpr PeerId kOtherNode{8};
constexpr uint64_t kBytes = 1 << 20;

/// Opens ordinary memory of this process, whatever the handle.
class Counting final : public Accelerator {
 public:
  class Opened final : public OpenedSlab {
   public:
    Opened(Counting* home, uint64_t bytes) : home_(*home), memory_(bytes) { ++home_.open; }
    ~Opened() override { --home_.open; }
    std::byte* address() const override { return const_cast<std::byte*>(memory_.data()); }
    DeviceResult read(uint64_t offset, std::span<std::byte> into) const override {
      std::memcpy(into.data(), memory_.data() + offset, into.size());
      return {};
    }

   private:
    Counting& home_;
    std::vector<std::byte> memory_;
  };
  std::string name() const override { return "counting"; }
  DeviceResult make_slab(uint64_t, std::unique_ptr<DeviceSlab>*) override { return {801, "no"}; }
  DeviceResult expect_host(std::span<std::byte>) override { return {}; }
  DeviceResult forget_host(std::span<std::byte>) override { return {}; }
  DeviceResult open_slab(const DeviceSlabHandle&, uint64_t bytes,
                         std::unique_ptr<OpenedSlab>* out) override {
    if (refuses) return {1, "no such slab"};
    ++opened;
    *out = std::make_unique<Opened>(this, bytes);
    return {};
  }
  int open = 0;
  int opened = 0;  // ever
  bool refuses = false;
};

proto::DeviceLoan loan(uint64_t id) {
  proto::DeviceLoan out;
  out.set_id(id);
  out.set_bytes(kBytes);
  out.set_handle(std::string(64, 'h'));
  return out;
}

class DeviceMemoryTest : public testing::Test, public DeviceMemory::Listener {
 protected:
  void device_given_back(PeerId peer, uint64_t id) override {
    EXPECT_TRUE(peer == kNode || peer == kOtherNode);
    given_back_.push_back(id);
  }
  void turn_until_given_back(size_t count) {
    for (int i = 0; i < 1000 && given_back_.size() < count; ++i) loop_->turn(milliseconds(5));
  }
  SystemClock clock_;
  std::unique_ptr<Loop> loop_ = *Loop::create({}, &clock_);
  std::shared_ptr<Counting> accelerator_ = std::make_shared<Counting>();
  std::vector<uint64_t> given_back_;
  DeviceMemory memory_{loop_.get(), accelerator_, this};
};

TEST_F(DeviceMemoryTest, is_opened_once_and_stays_open_for_the_next_view) {
  { ASSERT_TRUE(memory_.open(kNode, loan(1)).ok()); }
  const auto again = memory_.open(kNode, loan(1));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(accelerator_->opened, 1);
  EXPECT_EQ((*again)->loan(), 1u);
  EXPECT_EQ((*again)->at(kBytes - 5, 5).size(), 5u);
  EXPECT_TRUE((*again)->at(kBytes - 5, 6).empty());
  EXPECT_TRUE((*again)->at(kBytes + 1, 0).empty());
  EXPECT_TRUE((*again)->at(5, ~uint64_t{0}).empty());
  EXPECT_TRUE((*again)->at(~uint64_t{0}, 5).empty());
}

TEST_F(DeviceMemoryTest, is_given_back_when_the_last_view_of_it_is_released) {
  auto view = *memory_.open(kNode, loan(1));
  auto other = *memory_.open(kOtherNode, loan(1));
  memory_.called_back(kNode, 1);
  for (int i = 0; i < 5; ++i) loop_->turn(milliseconds(5));
  EXPECT_TRUE(given_back_.empty());
  EXPECT_EQ(accelerator_->open, 2);
  view.reset();
  turn_until_given_back(1);
  EXPECT_EQ(given_back_, std::vector<uint64_t>{1});
  EXPECT_EQ(accelerator_->open, 1);
  memory_.called_back(kNode, 1);  // the node asks again until it hears
  EXPECT_EQ(given_back_, (std::vector<uint64_t>{1, 1}));
}

TEST_F(DeviceMemoryTest, closes_with_its_session) {
  auto view = *memory_.open(kNode, loan(1));
  ASSERT_TRUE(memory_.open(kOtherNode, loan(1)).ok());
  memory_.session_gone(kOtherNode);
  EXPECT_EQ(accelerator_->open, 1);
  memory_.session_gone(kNode);
  EXPECT_EQ(accelerator_->open, 1) << "a view of it may be read";
  view.reset();
  turn_until_given_back(2);
  EXPECT_EQ(accelerator_->open, 0);
}

TEST_F(DeviceMemoryTest, a_node_lends_one_at_a_time) {
  auto view = *memory_.open(kNode, loan(1));
  for (uint64_t id = 2; id < 100; ++id) {
    EXPECT_EQ(memory_.open(kNode, loan(id)).status().code(), StatusCode::kInternal);
  }
  EXPECT_EQ(accelerator_->opened, 1);
  memory_.called_back(kNode, 1);
  EXPECT_FALSE(memory_.open(kNode, loan(2)).ok()) << "the first is in use";
  view.reset();
  turn_until_given_back(1);
  EXPECT_TRUE(memory_.open(kNode, loan(2)).ok());
}

TEST_F(DeviceMemoryTest, what_is_no_loan_is_refused_and_leaves_nothing) {
  proto::DeviceLoan bad = loan(1);
  bad.set_handle("short");
  EXPECT_EQ(memory_.open(kNode, bad).status().code(), StatusCode::kInternal);
  bad = loan(1);
  bad.set_bytes(0);
  EXPECT_EQ(memory_.open(kNode, bad).status().code(), StatusCode::kInternal);
  accelerator_->refuses = true;
  const Status refused = memory_.open(kNode, loan(1)).status();
  EXPECT_EQ(refused.code(), StatusCode::kUnavailable);
  EXPECT_NE(refused.message().find("no such slab"), std::string::npos);
  memory_.called_back(kNode, 1);
  EXPECT_EQ(given_back_, std::vector<uint64_t>{1}) << "it is not open";
  DeviceMemory without(loop_.get(), nullptr, this);
  EXPECT_EQ(without.open(kNode, loan(1)).status().code(), StatusCode::kFailedPrecondition);
}
}  // namespace
}  // namespace terrace
