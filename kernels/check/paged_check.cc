// The paged copy on the GPU: byte for byte what the CPU twin does, and how close it comes to a
// plain device-to-device copy of as many bytes.
#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "kernels/check/check.h"
#include "kernels/host_registration.h"
#include "kernels/paged_copy.h"

namespace terrace::gpu_check {
namespace {

constexpr double kOfPlainCopyMin = 0.7;

struct Shape {
  uint32_t planes, chunks, blocks;
  uint64_t block_bytes;
  uint64_t gap;  // between blocks of the pool
  uint32_t spare_blocks;
};

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  uint64_t below(uint64_t bound) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ % bound;
  }

 private:
  uint64_t state_;
};

/// Arrays of a copy in the device's memory. The chunks are `staged`, one after the other.
class OnDevice {
 public:
  OnDevice(const Shape& shape, std::byte* staged, std::byte* pools, uint64_t seed)
      : planes_(shape.planes * sizeof(PagedPlane)),
        staged_(uint64_t{shape.chunks} * shape.planes * sizeof(std::byte*)),
        ids_(uint64_t{shape.chunks} * shape.blocks * sizeof(uint32_t)) {
    const PagedCopy host = describe(shape, staged, pools, seed);
    copy_ = host;
    copy_.planes = sent(planes_, host.planes);
    copy_.staged = sent(staged_, host.staged);
    copy_.block_ids = sent(ids_, host.block_ids);
  }
  const PagedCopy& copy() const { return copy_; }
  /// The same for memory that the CPU has.
  PagedCopy twin(const Shape& shape, std::byte* staged, std::byte* pools, uint64_t seed) {
    return describe(shape, staged, pools, seed);
  }
  static uint64_t pool_bytes(const Shape& s) {
    return (uint64_t{s.chunks} * s.blocks + s.spare_blocks) * (s.block_bytes + s.gap);
  }

 private:
  PagedCopy describe(const Shape& s, std::byte* staged, std::byte* pools, uint64_t seed) {
    host_planes_.clear();
    host_staged_.clear();
    for (uint32_t p = 0; p < s.planes; ++p) {
      host_planes_.push_back({pools + p * pool_bytes(s), s.block_bytes + s.gap});
    }
    for (uint64_t n = 0; n < uint64_t{s.chunks} * s.planes; ++n) {
      host_staged_.push_back(staged + n * s.blocks * s.block_bytes);
    }
    Random random(seed);
    const uint32_t used = s.chunks * s.blocks;
    host_ids_.resize(used + s.spare_blocks);
    for (uint32_t b = 0; b < host_ids_.size(); ++b) host_ids_[b] = b;
    for (size_t i = host_ids_.size() - 1; i > 0; --i) {
      std::swap(host_ids_[i], host_ids_[random.below(i + 1)]);
    }
    if (s.spare_blocks > 0) {  // some that are not there, and one that is a mistake
      host_ids_[0] = kNoBlock;
      host_ids_[used - 1] = used + s.spare_blocks;
    }
    PagedCopy copy;
    copy.planes = host_planes_.data();
    copy.staged = host_staged_.data();
    copy.block_ids = host_ids_.data();
    copy.plane_count = s.planes;
    copy.chunk_count = s.chunks;
    copy.blocks_per_chunk = s.blocks;
    copy.pool_blocks = used + s.spare_blocks;
    copy.block_bytes = s.block_bytes;
    return copy;
  }
  template <class T>
  static const T* sent(const DeviceBuffer& into, const T* from) {
    must(cudaMemcpy(into.data(), from, into.size(), cudaMemcpyHostToDevice), "arrays");
    return reinterpret_cast<const T*>(into.data());
  }

  DeviceBuffer planes_, staged_, ids_;
  std::vector<PagedPlane> host_planes_;
  std::vector<std::byte*> host_staged_;
  std::vector<uint32_t> host_ids_;
  PagedCopy copy_;
};

void put(const DeviceBuffer& into, const std::vector<std::byte>& bytes) {
  must(cudaMemcpy(into.data(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice), "put");
}

/// Both directions of one shape, on the device and by the twin, from the same random bytes.
bool same_as_twin(const Shape& shape, uint64_t seed) {
  const uint64_t chunk_bytes = uint64_t{shape.planes} * shape.blocks * shape.block_bytes;
  std::vector<std::byte> staged = content(chunk_bytes * shape.chunks, seed);
  std::vector<std::byte> pools = content(OnDevice::pool_bytes(shape) * shape.planes, seed + 1);
  const DeviceBuffer device_staged(staged.size()), device_pools(pools.size());
  put(device_staged, staged);
  put(device_pools, pools);
  OnDevice arrays(shape, device_staged.data(), device_pools.data(), seed);
  const PagedCopy twin = arrays.twin(shape, staged.data(), pools.data(), seed);
  must(paged_copy_on_device(arrays.copy(), PagedDirection::scatter, nullptr));
  paged_copy_on_cpu(twin, PagedDirection::scatter);
  bool same = device_pools.bytes() == pools && device_staged.bytes() == staged;
  fill(staged, seed + 2);
  put(device_staged, staged);
  must(paged_copy_on_device(arrays.copy(), PagedDirection::gather, nullptr));
  paged_copy_on_cpu(twin, PagedDirection::gather);
  same = same && device_staged.bytes() == staged && device_pools.bytes() == pools;
  return same;
}

double copy_seconds(const PagedCopy& copy, PagedDirection direction, cudaStream_t stream) {
  return seconds_per_call(5, 10, stream,
                          [&] { must(paged_copy_on_device(copy, direction, stream)); });
}

void measure_shape(const char* name, const Shape& shape, cudaStream_t stream, Table* table) {
  const uint64_t bytes = uint64_t{shape.planes} * shape.chunks * shape.blocks * shape.block_bytes;
  const DeviceBuffer staged(bytes), pools(OnDevice::pool_bytes(shape) * shape.planes);
  const OnDevice arrays(shape, staged.data(), pools.data(), 3);
  const double plain = seconds_per_call(5, 10, stream, [&] {
    must(cudaMemcpyAsync(pools.data(), staged.data(), bytes, cudaMemcpyDeviceToDevice, stream),
         "device to device");
  });
  const auto rate = [bytes](double seconds) { return static_cast<double>(bytes) / seconds / 1e9; };
  const std::string what = name;
  table->rate("plain copy, " + what, rate(plain), 1, 0);
  // A launch has a price of its own, which only large copies hide.
  const double least = bytes >= (uint64_t{64} << 20) ? kOfPlainCopyMin : 0;
  for (const auto direction : {PagedDirection::scatter, PagedDirection::gather}) {
    const double seconds = copy_seconds(arrays.copy(), direction, stream);
    table->rate((direction == PagedDirection::scatter ? "scatter, " : "gather, ") + what,
                rate(seconds), plain / seconds, least);
  }
}

void measure_out_of_mapping(const Owner& owner, cudaStream_t stream, Table* table) {
  HostRegistration registration;
  must(HostRegistration::create(owner.memory(), HostAccess::read_only, &registration));
  for (const Shape& shape : {Shape{64, 8, 16, 32 << 10, 0, 0}, Shape{64, 64, 16, 4 << 10, 0, 0},
                             Shape{64, 256, 16, 1 << 10, 0, 0}}) {
    const DeviceBuffer pools(OnDevice::pool_bytes(shape) * shape.planes);
    const double plain = seconds_per_call(5, 4, stream, [&] {
      must(cudaMemcpyAsync(pools.data(), owner.memory().data(), kSharedBytes,
                           cudaMemcpyHostToDevice, stream),
           "host to device");
    });
    // Only read: a scatter does not write to what is staged.
    const OnDevice arrays(shape, const_cast<std::byte*>(owner.memory().data()), pools.data(), 5);
    const double seconds = copy_seconds(arrays.copy(), PagedDirection::scatter, stream);
    const std::string size = std::to_string(shape.block_bytes >> 10) + " KiB";
    table->rate("scatter out of a registered mapping, blocks of " + size,
                static_cast<double>(kSharedBytes) / seconds / 1e9, plain / seconds,
                kOfPlainCopyMin);
  }
  must(registration.end());
}
}  // namespace

void check_paged_copy(Table* table) {
  table->section("Paged copy against its CPU twin");
  Random random(11);
  int wrong = 0, shapes = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed, ++shapes) {
    const auto some = [&random](uint64_t most) {
      return static_cast<uint32_t>(1 + random.below(most));
    };
    const Shape shape{some(9), some(4), some(7), 16 * uint64_t{some(600)}, 16 * random.below(3),
                      some(5)};
    wrong += !same_as_twin(shape, seed);
  }
  table->check("60 random shapes, both directions, every byte of both sides", wrong == 0);
  table->check("a Llama-like shape: 64 planes, blocks of 32 KiB",
               same_as_twin({64, 2, 4, 32 << 10, 0, 1}, 100));
  table->check("blocks of 16 bytes", same_as_twin({3, 5, 7, 16, 16, 1}, 101));
  PagedCopy bad;
  bad.block_bytes = 24;
  table->check(
      "blocks that are no multiple of 16 bytes are refused",
      paged_copy_on_device(bad, PagedDirection::scatter, nullptr).code == cudaErrorInvalidValue);
  bad.block_bytes = 16;
  table->check("no chunks: nothing to do",
               paged_copy_on_device(bad, PagedDirection::scatter, nullptr).ok());
  must(cudaDeviceSynchronize(), "paged copies");
}

void measure_paged_copy(const Owner& owner, Table* table) {
  table->section("Paged copy beside a plain device-to-device copy of as many bytes (bytes moved)");
  cudaStream_t stream = nullptr;
  must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  measure_shape("64 planes, 16 chunks, blocks of 32 KiB: 512 MiB", {64, 16, 16, 32 << 10, 0, 0},
                stream, table);
  measure_shape("64 planes, 64 chunks, blocks of 4 KiB: 256 MiB", {64, 64, 16, 4 << 10, 0, 0},
                stream, table);
  measure_shape("64 planes, 64 chunks, blocks of 1 KiB: 64 MiB", {64, 64, 16, 1 << 10, 0, 0},
                stream, table);
  measure_shape("one chunk of 64 planes, blocks of 32 KiB: 32 MiB", {64, 1, 16, 32 << 10, 0, 0},
                stream, table);
  if (registers_read_only_memory()) measure_out_of_mapping(owner, stream, table);
  must(cudaStreamDestroy(stream), "cudaStreamDestroy");
}
}  // namespace terrace::gpu_check
