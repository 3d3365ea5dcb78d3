// Goal: over a day no more is allowed than the budget and one burst, and what gets in while it is
// short is what is worth most. Method: a manual clock, tables, and a day of candidates.
#include "storage/policy/write_budget.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/limits.h"
#include "base/prng.h"

namespace terrace {
namespace {

TEST(WriteBudgetTest, fills_over_the_day_up_to_an_hour) {
  WriteBudget budget(24 * kGiB, seconds(0));
  EXPECT_DOUBLE_EQ(budget.left(seconds(0)), 1);
  budget.spend(kGiB, seconds(0));
  EXPECT_DOUBLE_EQ(budget.left(seconds(0)), 0);
  EXPECT_NEAR(budget.left(seconds(1800)), 0.5, 1e-9);
  EXPECT_DOUBLE_EQ(budget.left(seconds(86'400)), 1);
  budget.spend(3 * kGiB, seconds(86'400));
  EXPECT_NEAR(budget.left(seconds(86'400 + 3600)), -1, 1e-9) << "owed";
  budget.spend(0, seconds(1));
  EXPECT_LE(budget.left(seconds(1)), 1) << "a clock that went back gives nothing";
}

TEST(WriteBudgetTest, none_is_no_limit) {
  WriteBudget budget(0, seconds(0));
  budget.spend(kGiB * 1000, seconds(0));
  EXPECT_FALSE(budget.limited());
  EXPECT_DOUBLE_EQ(budget.left(seconds(0)), 1);
}

TEST(WriteBudgetTest, the_price_rises_as_it_runs_out) {
  EXPECT_DOUBLE_EQ(price_on_budget(3, 10, 1), 3);
  EXPECT_DOUBLE_EQ(price_on_budget(3, 10, 0.5), 3);
  EXPECT_DOUBLE_EQ(price_on_budget(3, 10, 0.25), 13);
  EXPECT_DOUBLE_EQ(price_on_budget(0, 10, 0.1), 40);
  EXPECT_EQ(price_on_budget(0, 10, 0), std::numeric_limits<double>::infinity());
  EXPECT_EQ(price_on_budget(0, 10, -2), std::numeric_limits<double>::infinity());
  double last = 0;
  for (double left = 0.6; left > 0.001; left *= 0.9) {
    const double price = price_on_budget(1, 2, left);
    EXPECT_GE(price, last);
    last = price;
  }
}

TEST(WriteBudgetTest, a_day_of_four_times_too_much) {
  WriteBudget budget(48 * kGiB, seconds(0));
  Prng prng(1);
  uint64_t admitted = 0;
  double value_in = 0;
  double value_out = 0;
  uint64_t in = 0;
  uint64_t out = 0;
  for (int64_t s = 0; s < 86'400; ++s) {
    const double value = static_cast<double>(1 + prng.below(1000));
    const uint64_t bytes = 4 * 48 * kGiB / 86'400;
    if (value > price_on_budget(0, 500, budget.left(seconds(s)))) {
      budget.spend(bytes, seconds(s));
      admitted += bytes;
      value_in += value;
      ++in;
    } else {
      value_out += value;
      ++out;
    }
  }
  EXPECT_LE(admitted, 51 * kGiB);
  EXPECT_GE(admitted, 46 * kGiB) << "it is used";
  EXPECT_GT(value_in / static_cast<double>(in), 1.5 * value_out / static_cast<double>(out));
}
}  // namespace
}  // namespace terrace
