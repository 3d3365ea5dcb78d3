// tools/reference_engine/ops.h - the arithmetic of a decoder, in float32, and memory for it. Pure
// functions of their arguments; safe from many threads. For given shapes they always add in the
// same order, so equal inputs give equal bits.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>

#include "base/check.h"

namespace terrace {

/// Fixes the number of threads of the matrix product for the whole process: one, because another
/// number gives other last bits. Idempotent; every model calls it.
void fix_matrix_threads();
/// The matrix kernels that this machine selects: other kernels, other last bits.
std::string matrix_kernels();

/// Floats on a cache line; their number is fixed when made. Move-only.
class FloatArray {
 public:
  FloatArray() = default;
  /// Uninitialized.
  explicit FloatArray(size_t count);
  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  size_t size() const { return size_; }
  std::span<float> span() { return {data_.get(), size_}; }
  std::span<const float> span() const { return {data_.get(), size_}; }

 private:
  struct Free {
    void operator()(float* data) const { std::free(data); }
  };
  std::unique_ptr<float, Free> data_;
  size_t size_ = 0;
};

/// Rows at `data`, `stride` floats apart.
struct MatrixView {
  const float* data = nullptr;
  uint32_t rows = 0;
  uint32_t columns = 0;
  uint32_t stride = 0;
};
struct MutableMatrix {
  float* data = nullptr;
  uint32_t stride = 0;
};

/// out = a * b^T: weights lie [outputs][inputs].
void multiply_transposed(const MatrixView& a, const MatrixView& b, const MutableMatrix& out);
/// out = a * b.
void multiply(const MatrixView& a, const MatrixView& b, const MutableMatrix& out);

/// out = x / sqrt(mean(x^2) + epsilon) * weight (Zhang and Sennrich 2019).
void rms_norm(std::span<const float> x, std::span<const float> weight, float epsilon,
              std::span<float> out);
/// x[i] += y[i].
void add(std::span<float> x, std::span<const float> y);
/// gate = silu(gate) * up.
void swiglu(std::span<float> gate, std::span<const float> up);
/// Turns scale * scores into probabilities, in place.
void softmax(std::span<float> scores, float scale);
/// Rotates one head in place: dimension i pairs with i + head_dim / 2; `cosines` and `sines` hold
/// head_dim / 2 values for its position.
void rotate_halves(std::span<float> head, const float* cosines, const float* sines);
/// The index of the greatest; the first one of equals.
uint32_t argmax(std::span<const float> values);
}  // namespace terrace
