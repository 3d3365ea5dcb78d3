// Goal: the rate is the Gittins index of the gaps that were learned, and looks ahead where a hazard
// would not. Method: classes of known gaps; the index computed from the definition.
#include "storage/policy/reuse_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/prng.h"

namespace terrace {
namespace {

const UseHistory kOnce;

UseHistory history(uint16_t uses, double last_gap_s = 0) {
  UseHistory out{.uses = static_cast<uint16_t>(uses - 1)};
  out.use_again(last_gap_s);
  return out;
}

/// So many objects that are used once, of which `back` come back after one of `gaps`.
void teach(GapHistogram* model, int objects, int back, const std::vector<double>& gaps) {
  for (int i = 0; i < objects; ++i) {
    model->first_use();
    if (i < back) model->used_again(kOnce, gaps[static_cast<size_t>(i) % gaps.size()]);
  }
}

/// The best of P(back by t) / E(time until back or t), over t at the gaps; from age 0.
double gittins(double share, std::vector<double> gaps) {
  std::sort(gaps.begin(), gaps.end());
  const double each = share / static_cast<double>(gaps.size());
  double best = 0;
  double held = 0;
  double back = 0;
  double since = 0;
  for (const double gap : gaps) {
    held += (1 - back) * (gap - since);
    since = gap;
    back += each;
    best = std::max(best, back / held);
  }
  return best;
}

TEST(GapHistogramTest, gives_the_gittins_index_of_what_it_learned) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Prng prng(seed);
    std::vector<double> gaps;
    for (int i = 0; i < 5; ++i) gaps.push_back(1 + static_cast<double>(prng.below(500)));
    const double share = 0.2 + 0.15 * static_cast<double>(prng.below(5));
    GapHistogram model;
    teach(&model, 10'000, static_cast<int>(share * 10'000), gaps);
    const double expected = gittins(share, gaps);
    // A bin is a quarter of an octave wide.
    EXPECT_NEAR(model.rate(kOnce, 0) / expected, 1, 0.25) << "seed " << seed;
  }
}

TEST(GapHistogramTest, looks_ahead_to_gaps_that_are_still_to_come) {
  GapHistogram model;
  teach(&model, 10'000, 8'000, {60});
  EXPECT_GT(model.rate(kOnce, 40), model.rate(kOnce, 1));        // it will be back soon
  EXPECT_LT(model.rate(kOnce, 200), model.rate(kOnce, 1) / 10);  // it was not
}

TEST(GapHistogramTest, tells_classes_apart_and_never_returns_nothing) {
  GapHistogram model;
  teach(&model, 10'000, 100, {60});
  for (int i = 0; i < 5'000; ++i) model.used_again(history(9, 60), 60);
  EXPECT_GT(model.rate(history(9, 60), 1), 5 * model.rate(kOnce, 1));
  EXPECT_LT(GapHistogram::class_of(kOnce), GapHistogram::class_of(history(2)));
  EXPECT_EQ(GapHistogram::class_of(history(0xFFFF, 1e6)), GapHistogram::kClasses - 1);
  double before = model.rate(kOnce, 1e6);
  for (double age = 2e6; age < 1e9; age *= 2) {
    const double now = model.rate(kOnce, age);
    EXPECT_GT(now, 0);
    EXPECT_LT(now, before);
    before = now;
  }
}

TEST(GapHistogramTest, those_that_rested_long_are_not_those_that_come_back_at_once) {
  GapHistogram model;
  for (int i = 0; i < 5'000; ++i) {
    model.used_again(history(3, 2), 2);      // a tool's answer
    model.used_again(history(3, 900), 900);  // a person's
  }
  EXPECT_GT(model.rate(history(3, 2), 1), 20 * model.rate(history(3, 900), 1));
  EXPECT_GT(model.rate(history(3, 900), 700), model.rate(history(3, 2), 700));
}

TEST(GapHistogramTest, before_any_lesson_the_younger_is_worth_more) {
  const GapHistogram model;
  EXPECT_GT(model.rate(kOnce, 1), model.rate(kOnce, 100));
  EXPECT_GT(model.rate(kOnce, 100), model.rate(kOnce, 10'000));
}
}  // namespace
}  // namespace terrace
