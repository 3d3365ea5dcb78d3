// Goal: the rate is the Gittins index of the gaps that were learned, and looks ahead where a hazard
// would not. Method: classes of known gaps; the index computed from the definition.
#include "storage/policy/reuse_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/prng.h"

namespace terrace {
namespace {

/// So many objects that are used once, of which `back` come back after one of `gaps`.
void teach(GapHistogram* model, int objects, int back, const std::vector<double>& gaps) {
  for (int i = 0; i < objects; ++i) {
    model->learn(1, 0);
    if (i < back) model->learn(2, gaps[static_cast<size_t>(i) % gaps.size()]);
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
    EXPECT_NEAR(model.rate(1, 0) / expected, 1, 0.25) << "seed " << seed;
  }
}

TEST(GapHistogramTest, looks_ahead_to_gaps_that_are_still_to_come) {
  GapHistogram model;
  teach(&model, 10'000, 8'000, {60});
  EXPECT_GT(model.rate(1, 40), model.rate(1, 1));        // it will be back soon
  EXPECT_LT(model.rate(1, 200), model.rate(1, 1) / 10);  // it was not
}

TEST(GapHistogramTest, tells_classes_apart_and_never_returns_nothing) {
  GapHistogram model;
  teach(&model, 10'000, 100, {60});
  for (int i = 0; i < 5'000; ++i) {
    model.learn(9, 60);
    if (i % 2 == 0) model.learn(10, 60);
  }
  EXPECT_GT(model.rate(9, 1), 5 * model.rate(1, 1));
  EXPECT_LT(GapHistogram::class_of(1), GapHistogram::class_of(2));
  EXPECT_EQ(GapHistogram::class_of(1'000'000), GapHistogram::kClasses - 1);
  double before = model.rate(1, 1e6);
  for (double age = 2e6; age < 1e9; age *= 2) {
    const double now = model.rate(1, age);
    EXPECT_GT(now, 0);
    EXPECT_LT(now, before);
    before = now;
  }
}

TEST(GapHistogramTest, before_any_lesson_the_younger_is_worth_more) {
  const GapHistogram model;
  EXPECT_GT(model.rate(1, 1), model.rate(1, 100));
  EXPECT_GT(model.rate(1, 100), model.rate(1, 10'000));
}
}  // namespace
}  // namespace terrace
