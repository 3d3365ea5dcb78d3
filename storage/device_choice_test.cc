// Goal: objects go where there is room and little to do, devices of any size fill up together, and
// only a device that is really slow is called so. Method: tables.
#include "storage/device_choice.h"

#include <gtest/gtest.h>

#include "base/limits.h"

namespace terrace {
namespace {

TEST(DeviceChoiceTest, space_and_queue_decide) {
  std::vector<DeviceLoad> loads = {{100 * kMiB, kGiB, 0, true},
                                   {800 * kMiB, kGiB, 0, true},
                                   {900 * kMiB, kGiB, 64 * kMiB, true},
                                   {kGiB, kGiB, 0, false},
                                   {kMiB, kGiB, 0, true}};
  EXPECT_EQ(choose_devices(loads, 2 * kMiB), (std::vector<size_t>{1, 0, 2}));
  loads[1].free_bytes = kMiB;
  loads[0].queued_bytes = 512 * kMiB;
  EXPECT_EQ(choose_devices(loads, 2 * kMiB), (std::vector<size_t>{2, 0}));
  EXPECT_TRUE(choose_devices(loads, 2 * kGiB).empty());
  EXPECT_TRUE(choose_devices({}, 1).empty());
}

TEST(DeviceChoiceTest, devices_of_two_sizes_fill_up_together) {
  std::vector<DeviceLoad> loads = {{kGiB, kGiB, 0, true}, {3 * kGiB, 3 * kGiB, 0, true}};
  for (int i = 0; i < 2000; ++i) loads[choose_devices(loads, kMiB)[0]].free_bytes -= kMiB;
  EXPECT_NEAR(static_cast<double>(loads[1].free_bytes) / static_cast<double>(loads[0].free_bytes),
              3, 0.1);
}

TEST(DeviceChoiceTest, slow_is_many_times_slower_than_the_others) {
  const DevicePace none;
  const auto pace = [](double us) { return DevicePace{us, true}; };
  EXPECT_TRUE(is_slow(std::vector{pace(100'000), pace(900), pace(1'000)}, 0));
  EXPECT_FALSE(is_slow(std::vector{pace(100'000), pace(900), pace(1'000)}, 1));
  EXPECT_FALSE(is_slow(std::vector{pace(15'000), pace(100)}, 0)) << "not long";
  EXPECT_FALSE(is_slow(std::vector{pace(100'000), pace(50'000)}, 0)) << "all are";
  EXPECT_FALSE(is_slow(std::vector{pace(100'000)}, 0)) << "no peers";
  EXPECT_FALSE(is_slow(std::vector{pace(100'000), none}, 0));
  EXPECT_FALSE(is_slow(std::vector{none, pace(100)}, 0));
}
}  // namespace
}  // namespace terrace
