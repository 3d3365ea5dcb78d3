#include "tools/reference_engine/ops.h"

#include <cblas.h>

#include <cmath>

namespace terrace {
namespace {
constexpr size_t kCacheLineBytes = 64;
constexpr int kThreads = 1;

int as_int(uint32_t value) {
  return static_cast<int>(value);
}
}  // namespace

void fix_matrix_threads() {
  openblas_set_num_threads(kThreads);
}

std::string matrix_kernels() {
  return "OpenBLAS " + std::string(openblas_get_corename()) + " x" + std::to_string(kThreads);
}

FloatArray::FloatArray(size_t count) : size_(count) {
  const size_t bytes = (count * sizeof(float) + kCacheLineBytes - 1) & ~(kCacheLineBytes - 1);
  data_.reset(static_cast<float*>(std::aligned_alloc(kCacheLineBytes, bytes)));
  TERRACE_CHECK(count == 0 || data_ != nullptr);
}

// One row is a matrix-vector product: a matrix product would first copy all of b.
void multiply_transposed(const MatrixView& a, const MatrixView& b, const MutableMatrix& out) {
  TERRACE_CHECK(a.columns == b.columns);
  if (a.rows == 1) {
    cblas_sgemv(CblasRowMajor, CblasNoTrans, as_int(b.rows), as_int(b.columns), 1.0f, b.data,
                as_int(b.stride), a.data, 1, 0.0f, out.data, 1);
    return;
  }
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, as_int(a.rows), as_int(b.rows),
              as_int(a.columns), 1.0f, a.data, as_int(a.stride), b.data, as_int(b.stride), 0.0f,
              out.data, as_int(out.stride));
}

void multiply(const MatrixView& a, const MatrixView& b, const MutableMatrix& out) {
  TERRACE_CHECK(a.columns == b.rows);
  if (a.rows == 1) {
    cblas_sgemv(CblasRowMajor, CblasTrans, as_int(b.rows), as_int(b.columns), 1.0f, b.data,
                as_int(b.stride), a.data, 1, 0.0f, out.data, 1);
    return;
  }
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, as_int(a.rows), as_int(b.columns),
              as_int(a.columns), 1.0f, a.data, as_int(a.stride), b.data, as_int(b.stride), 0.0f,
              out.data, as_int(out.stride));
}

void rms_norm(std::span<const float> x, std::span<const float> weight, float epsilon,
              std::span<float> out) {
  float sum = 0.0f;
  for (const float value : x) sum += value * value;
  const float scale = 1.0f / std::sqrt(sum / static_cast<float>(x.size()) + epsilon);
  for (size_t i = 0; i < x.size(); ++i) out[i] = x[i] * scale * weight[i];
}

void add(std::span<float> x, std::span<const float> y) {
  for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
}

void swiglu(std::span<float> gate, std::span<const float> up) {
  for (size_t i = 0; i < gate.size(); ++i) {
    gate[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
  }
}

void softmax(std::span<float> scores, float scale) {
  float greatest = scores[0];
  for (const float score : scores) greatest = std::max(greatest, score);
  float sum = 0.0f;
  for (float& score : scores) {
    score = std::exp((score - greatest) * scale);
    sum += score;
  }
  const float inverse = 1.0f / sum;
  for (float& score : scores) score *= inverse;
}

void rotate_halves(std::span<float> head, const float* cosines, const float* sines) {
  const size_t half = head.size() / 2;
  for (size_t i = 0; i < half; ++i) {
    const float a = head[i];
    const float b = head[i + half];
    head[i] = a * cosines[i] - b * sines[i];
    head[i + half] = b * cosines[i] + a * sines[i];
  }
}

uint32_t argmax(std::span<const float> values) {
  size_t best = 0;
  for (size_t i = 1; i < values.size(); ++i) {
    if (values[i] > values[best]) best = i;
  }
  return static_cast<uint32_t>(best);
}
}  // namespace terrace
