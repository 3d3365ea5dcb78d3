// Host to device: out of a registered read-only mapping, beside cudaMallocHost (the ceiling) and
// the same mapping unregistered; in one piece and in pieces as views and paged caches have them.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/check/check.h"
#include "kernels/host_registration.h"

namespace terrace::gpu_check {
namespace {

constexpr size_t kChunk = size_t{32} << 20;
constexpr int kRounds = 5;
constexpr double kRegisteredMin = 0.9;  // of cudaMallocHost

enum class Method { one_by_one, batched };

/// Copies one chunk in pieces, in order of the source, to places in random order.
class PieceCopy {
 public:
  PieceCopy(const std::byte* source, std::byte* target, size_t piece, Method method)
      : source_(source), target_(target), piece_(piece), method_(method), places_(kChunk / piece) {
    for (size_t i = 0; i < places_.size(); ++i) places_[i] = i;
    uint64_t state = 88172645463325252u;
    for (size_t i = places_.size() - 1; i > 0; --i) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      std::swap(places_[i], places_[state % (i + 1)]);
    }
    sizes_.assign(places_.size(), piece);
  }

  /// Of the chunk at `offset` of the source.
  void start(size_t offset, cudaStream_t stream) {
    if (method_ == Method::one_by_one) {
      for (size_t i = 0; i < places_.size(); ++i) {
        must(cudaMemcpyAsync(target_ + places_[i] * piece_, source_ + offset + i * piece_, piece_,
                             cudaMemcpyHostToDevice, stream),
             "cudaMemcpyAsync");
      }
      return;
    }
    from_.clear();
    to_.clear();
    for (size_t i = 0; i < places_.size(); ++i) {
      from_.push_back(source_ + offset + i * piece_);
      to_.push_back(target_ + places_[i] * piece_);
    }
    batch(stream);
  }

  /// Whether the chunk at `offset` lies where it should.
  bool landed(size_t offset, const DeviceBuffer& device) const {
    const std::vector<std::byte> seen = device.bytes();
    for (size_t i = 0; i < places_.size(); ++i) {
      if (std::memcmp(seen.data() + places_[i] * piece_, source_ + offset + i * piece_, piece_) !=
          0) {
        return false;
      }
    }
    return true;
  }

 private:
  void batch(cudaStream_t stream) {
#if CUDART_VERSION >= 13000
    cudaMemcpyAttributes how{};
    how.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
    size_t first = 0;
    must(cudaMemcpyBatchAsync(to_.data(), from_.data(), sizes_.data(), to_.size(), &how, &first, 1,
                              stream),
         "cudaMemcpyBatchAsync");
#else
    (void)stream;
#endif
  }

  const std::byte* const source_;
  std::byte* const target_;
  const size_t piece_;
  const Method method_;
  std::vector<size_t> places_, sizes_;
  std::vector<const void*> from_;
  std::vector<void*> to_;
};

/// One way to bring chunks over, timed round by round so that others can take turns.
class Way {
 public:
  Way(const std::byte* source, const DeviceBuffer& device, size_t piece, Method method)
      : copy_(source, device.data(), piece, method),
        calls_(piece >= kChunk / 512 ? 8 : 2),
        device_(&device) {}
  void round(cudaStream_t stream) {
    const double seconds = seconds_per_call(1, calls_, stream, [&] {
      offset_ = (offset_ + kChunk) % kSharedBytes;
      copy_.start(offset_, stream);
    });
    rates_.push_back(static_cast<double>(kChunk) / seconds / 1e9);
    right_ = right_ && copy_.landed(offset_, *device_);
  }
  double rate() const { return median(rates_); }
  /// The median of the rounds' ratios.
  double ratio_to(const Way& ceiling) const {
    std::vector<double> ratios;
    for (size_t i = 0; i < rates_.size(); ++i) ratios.push_back(rates_[i] / ceiling.rates_[i]);
    return median(ratios);
  }
  bool right() const { return right_; }

 private:
  static double median(std::vector<double> of) {
    std::sort(of.begin(), of.end());
    return of[of.size() / 2];
  }
  PieceCopy copy_;
  const int calls_;
  const DeviceBuffer* const device_;
  size_t offset_ = 0;
  std::vector<double> rates_;
  bool right_ = true;
};

std::string name_of(size_t piece, Method method) {
  if (piece == kChunk) return "32 MiB";
  const std::string size = std::to_string(piece >> 10) + " KiB pieces";
  return size + (method == Method::batched ? ", cudaMemcpyBatchAsync" : ", cudaMemcpyAsync");
}

void measure_registering(std::span<const std::byte> memory, Table* table) {
  HostRegistration registration;
  const double both = seconds_per_call(3, 1, nullptr, [&] {
    must(HostRegistration::create(memory, HostAccess::read_only, &registration));
    must(registration.end());
  });
  table->note("register and unregister 256 MiB", std::to_string(both * 1e3) + " ms");
}
}  // namespace

void measure_copies(const Owner& owner, Table* table) {
  table->section("Host to device, a chunk of 32 MiB, each of 8; ratio to cudaMallocHost");
  cudaStream_t stream = nullptr;
  must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  const DeviceBuffer device(kChunk);
  void* pinned = nullptr;
  must(cudaMallocHost(&pinned, kSharedBytes), "cudaMallocHost");
  std::memcpy(pinned, owner.memory().data(), kSharedBytes);
  if (!registers_read_only_memory()) {
    return table->note("registered mapping", "this device cannot");
  }
  measure_registering(owner.memory(), table);
  bool right = true;
  for (const size_t piece : {kChunk, size_t{512} << 10, size_t{64} << 10, size_t{4} << 10}) {
    for (const Method method : {Method::one_by_one, Method::batched}) {
      if (method == Method::batched && (piece == kChunk || CUDART_VERSION < 13000)) continue;
      const std::string name = name_of(piece, method);
      Way ceiling(static_cast<const std::byte*>(pinned), device, piece, method);
      Way registered(owner.memory().data(), device, piece, method);
      Way plain(owner.memory().data(), device, piece, method);
      for (int i = 0; i < kRounds; ++i) {
        ceiling.round(stream);
        HostRegistration registration;
        must(HostRegistration::create(owner.memory(), HostAccess::read_only, &registration));
        registered.round(stream);
        must(registration.end());
        if (method == Method::one_by_one) plain.round(stream);
      }
      table->rate("cudaMallocHost, " + name, ceiling.rate(), 1, 0);
      table->rate("registered mapping, " + name, registered.rate(), registered.ratio_to(ceiling),
                  kRegisteredMin);
      right = right && ceiling.right() && registered.right();
      if (method == Method::batched) continue;
      table->rate("unregistered mapping, " + name, plain.rate(), plain.ratio_to(ceiling), 0);
      right = right && plain.right();
    }
  }
  table->check("the bytes arrived in their places", right);
  must(cudaFreeHost(pinned), "cudaFreeHost");
  must(cudaStreamDestroy(stream), "cudaStreamDestroy");
}
}  // namespace terrace::gpu_check
