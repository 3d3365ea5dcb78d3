// Goal: each operation computes what its formula says. Method: random inputs from a seed against
// plain loops in double, and properties that need no reference.
#include "tools/reference_engine/ops.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/prng.h"

namespace terrace {
namespace {
constexpr uint64_t kSeed = 7;

std::vector<float> random_floats(size_t count, uint64_t seed) {
  Prng prng(seed);
  std::vector<float> out(count);
  for (float& value : out) value = static_cast<float>(prng.unit() * 4.0 - 2.0);
  return out;
}

TEST(Ops, RmsNormMatchesItsFormula) {
  const auto x = random_floats(512, kSeed);
  const auto weight = random_floats(512, kSeed + 1);
  std::vector<float> out(512);
  rms_norm(x, weight, 1e-5f, out);
  double sum = 0;
  for (const float value : x) sum += static_cast<double>(value) * static_cast<double>(value);
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected =
        static_cast<double>(x[i]) / std::sqrt(sum / 512 + 1e-5) * static_cast<double>(weight[i]);
    EXPECT_NEAR(out[i], expected, 1e-5) << "seed " << kSeed << " at " << i;
  }
}

TEST(Ops, RotationTurnsPairsOfHalves) {
  constexpr size_t kHalf = 32;
  const auto before = random_floats(2 * kHalf, kSeed);
  std::vector<float> cosines(kHalf), sines(kHalf);
  for (size_t i = 0; i < kHalf; ++i) {
    cosines[i] = std::cos(0.1f * static_cast<float>(i));
    sines[i] = std::sin(0.1f * static_cast<float>(i));
  }
  auto after = before;
  rotate_halves(after, cosines.data(), sines.data());
  for (size_t i = 0; i < kHalf; ++i) {
    const double angle = 0.1 * static_cast<double>(i);
    const double a = static_cast<double>(before[i]);
    const double b = static_cast<double>(before[i + kHalf]);
    EXPECT_NEAR(after[i], a * std::cos(angle) - b * std::sin(angle), 1e-5) << "seed " << kSeed;
    EXPECT_NEAR(after[i + kHalf], a * std::sin(angle) + b * std::cos(angle), 1e-5);
  }
  for (float& sine : sines) sine = -sine;
  rotate_halves(after, cosines.data(), sines.data());
  for (size_t i = 0; i < before.size(); ++i) EXPECT_NEAR(after[i], before[i], 1e-5);
}

TEST(Ops, ProductsMatchPlainLoopsAlsoWithStrides) {
  fix_matrix_threads();
  for (const uint32_t rows : {1u, 3u, 17u}) {
    const auto a = random_floats(rows * 40, kSeed);
    const auto b = random_floats(21 * 40, kSeed + 1);
    std::vector<float> transposed(rows * 21), plain(rows * 40);
    multiply_transposed({a.data(), rows, 33, 40}, {b.data(), 21, 33, 40}, {transposed.data(), 21});
    multiply({a.data(), rows, 21, 40}, {b.data(), 21, 33, 40}, {plain.data(), 40});
    for (size_t r = 0; r < rows; ++r) {
      for (size_t c = 0; c < 21; ++c) {
        double sum = 0;
        for (size_t k = 0; k < 33; ++k) {
          sum += static_cast<double>(a[r * 40 + k]) * static_cast<double>(b[c * 40 + k]);
        }
        EXPECT_NEAR(transposed[r * 21 + c], sum, 1e-4) << "seed " << kSeed << " rows " << rows;
      }
      for (size_t c = 0; c < 33; ++c) {
        double sum = 0;
        for (size_t k = 0; k < 21; ++k) {
          sum += static_cast<double>(a[r * 40 + k]) * static_cast<double>(b[k * 40 + c]);
        }
        EXPECT_NEAR(plain[r * 40 + c], sum, 1e-4) << "seed " << kSeed << " rows " << rows;
      }
    }
  }
}

TEST(Ops, SoftmaxSumsToOneAndDoesNotOverflow) {
  std::vector<float> scores = {1000.0f, 999.0f, -1000.0f};
  softmax(scores, 2.0f);
  EXPECT_NEAR(scores[0], 1.0 / (1.0 + std::exp(-2.0)), 1e-6);
  EXPECT_NEAR(scores[0] + scores[1] + scores[2], 1.0, 1e-6);
  EXPECT_EQ(scores[2], 0.0f);
}

TEST(Ops, SwigluGatesAndArgmaxTakesTheFirst) {
  std::vector<float> gate = {-2.0f, 0.0f, 3.0f};
  const std::vector<float> up = {1.0f, 5.0f, 2.0f};
  swiglu(gate, up);
  EXPECT_NEAR(gate[0], -2.0 / (1 + std::exp(2.0)), 1e-6);
  EXPECT_EQ(gate[1], 0.0f);
  EXPECT_NEAR(gate[2], 3.0 / (1 + std::exp(-3.0)) * 2.0, 1e-5);
  EXPECT_EQ(argmax(std::vector<float>{1.0f, 3.0f, 3.0f}), 1u);
}
}  // namespace
}  // namespace terrace
