// Goal: a view's bytes reach a GPU straight from where they lie in the node's memory, registered
// once, every byte right, about as fast as out of CUDA's own pinned memory. Method: a real node
// and client; what arrived is compared on the host with what was put; each way to the device is
// timed beside a plain copy out of pinned memory in the same rounds. Skips without a device.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <thread>

#include "kernels/paged_copy.h"
#include "tests/e2e/harness.h"
#include "tests/gpu/registered_memory.h"

namespace terrace::e2e {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kChunk = 32u << 20;
constexpr uint32_t kSections = 64;
constexpr uint32_t kBlocks = 16;  // of a section, in an engine's pool
constexpr uint64_t kBlockBytes = kChunk / kSections / kBlocks;
constexpr uint32_t kChunks = 16;
constexpr double kOfPinnedMin = 0.8;

/// Copies to the device, many in one call where CUDA has that.
class Batch {
 public:
  /// Where the bytes after it go.
  std::byte* add(const ViewedSection& section, std::byte* to) {
    for (const auto& piece : section.pieces) {
      from_.push_back(piece.data());
      to_.push_back(to);
      bytes_.push_back(piece.size());
      to += piece.size();
    }
    return to;
  }
  void start(cudaStream_t stream) {
    if (to_.empty()) return;
#if CUDART_VERSION >= 13000
    cudaMemcpyAttributes how{};
    how.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
    size_t first = 0;
    ASSERT_EQ(cudaMemcpyBatchAsync(to_.data(), from_.data(), bytes_.data(), to_.size(), &how,
                                   &first, 1, stream),
              cudaSuccess);
#else
    for (size_t i = 0; i < to_.size(); ++i) {
      ASSERT_EQ(cudaMemcpyAsync(to_[i], from_[i], bytes_[i], cudaMemcpyHostToDevice, stream),
                cudaSuccess);
    }
#endif
  }

 private:
  std::vector<const void*> from_;
  std::vector<void*> to_;
  std::vector<size_t> bytes_;
};

class ViewToGpu : public testing::Test {
 protected:
  void SetUp() override {
    // The node first: a process that uses CUDA should not fork.
    node_ = std::make_unique<NodeProcess>(std::vector<std::string>{
        "--dram-bytes", "2GiB", "--view-bytes-max", std::to_string(uint64_t{2} << 30)});
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) GTEST_SKIP() << "no GPU";
    client_ = std::make_unique<TestClient>(node_->endpoint());
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    void* device = nullptr;
    ASSERT_EQ(cudaMalloc(&device, kChunk), cudaSuccess);
    device_ = static_cast<std::byte*>(device);
  }
  void TearDown() override {
    if (device_ == nullptr) return;
    EXPECT_EQ(cudaFree(device_), cudaSuccess);
    for (void* const memory : allocations_) EXPECT_EQ(cudaFree(memory), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
  }
  /// Until all of them are there together: a young node has room for few, and evicts.
  void store(uint32_t chunks) {
    for (uint32_t i = 0; i < chunks; ++i) keys_.push_back(client_->key("c" + std::to_string(i)));
    uint32_t there = 0;
    for (int pass = 0; pass < 200 && there < chunks; ++pass) {
      there = 0;
      for (uint32_t i = 0; i < chunks; ++i) {
        const std::string name = "c" + std::to_string(i);
        const StatusCode code = client_->put(name, kChunk, Durability::memory, kSections);
        there += code == StatusCode::kAlreadyExists;
        if (code == StatusCode::kResourceExhausted) std::this_thread::sleep_for(milliseconds(25));
      }
    }
    ASSERT_EQ(there, chunks);
  }
  Completion taken(const StatusOr<OpId>& op) {
    EXPECT_TRUE(op.ok()) << op.status().to_string();
    auto done = client_->sdk().wait(*op, seconds(10));
    EXPECT_TRUE(done.ok() && done->status.ok())
        << (done.ok() ? done->status : done.status()).to_string();
    return *std::move(done);
  }
  StatusOr<OpId> ask(uint32_t i) {
    return client_->sdk().view(client_->ns(), {&keys_[i % keys_.size()], 1}, {});
  }
  /// The view's bytes, one section after the other, to `to`: all copies in one call.
  void start_copies(const ObjectView& view) {
    std::byte* to = device_;
    Batch batch;
    for (const ViewedSection& section : view.sections) to = batch.add(section, to);
    batch.start(stream_);
  }
  /// One launch that reads sections where the view shows them (those in several pieces are put
  /// together on the device first) and writes the blocks of an engine's pool. Here the pool is
  /// device_, plane after plane, and its blocks come in reverse order.
  void start_scatter(const ObjectView& view) {
    std::vector<std::byte*> staged;
    std::byte* spare = tables_.spare;
    Batch batch;
    for (const ViewedSection& section : view.sections) {
      const bool whole = section.pieces.size() == 1;
      // The launch only reads there.
      staged.push_back(whole ? const_cast<std::byte*>(section.pieces[0].data()) : spare);
      if (!whole) spare = batch.add(section, spare);
      ++(whole ? sections_read_in_place_ : sections_put_together_);
    }
    batch.start(stream_);
    ASSERT_EQ(cudaMemcpyAsync(tables_.staged, staged.data(), staged.size() * sizeof(staged[0]),
                              cudaMemcpyHostToDevice, stream_),
              cudaSuccess);
    PagedCopy copy;
    copy.planes = tables_.planes;
    copy.staged = tables_.staged;
    copy.block_ids = tables_.block_ids;
    copy.plane_count = kSections;
    copy.chunk_count = 1;
    copy.blocks_per_chunk = copy.pool_blocks = kBlocks;
    copy.block_bytes = kBlockBytes;
    const DeviceResult started = paged_copy_on_device(copy, PagedDirection::scatter, stream_);
    ASSERT_TRUE(started.ok()) << started.message;
  }
  void make_tables() {
    std::vector<PagedPlane> planes;
    std::vector<uint32_t> ids;
    for (uint32_t p = 0; p < kSections; ++p) {
      planes.push_back({device_ + p * kBlocks * kBlockBytes, kBlockBytes});
    }
    for (uint32_t b = 0; b < kBlocks; ++b) ids.push_back(kBlocks - 1 - b);
    tables_.planes = on_device_of(planes);
    tables_.block_ids = on_device_of(ids);
    tables_.staged = on_device_of(std::vector<std::byte*>(kSections));
    tables_.spare = on_device_of(std::vector<std::byte>(kChunk));
  }
  template <class T>
  T* on_device_of(const std::vector<T>& values) {
    void* out = nullptr;
    EXPECT_EQ(cudaMalloc(&out, values.size() * sizeof(T)), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(out, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
              cudaSuccess);
    allocations_.push_back(out);
    return static_cast<T*>(out);
  }
  std::vector<std::byte> on_device() {
    std::vector<std::byte> out(kChunk);
    EXPECT_EQ(cudaMemcpy(out.data(), device_, kChunk, cudaMemcpyDeviceToHost), cudaSuccess);
    return out;
  }
  void wait_for_device() { ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess); }

  std::unique_ptr<NodeProcess> node_;
  std::unique_ptr<TestClient> client_;
  std::vector<ChunkKey> keys_;
  cudaStream_t stream_ = nullptr;
  std::byte* device_ = nullptr;
  struct {
    PagedPlane* planes;
    std::byte** staged;
    uint32_t* block_ids;
    std::byte* spare;
  } tables_{};
  uint32_t sections_read_in_place_ = 0, sections_put_together_ = 0;
  std::vector<void*> allocations_;
};

TEST_F(ViewToGpu, EveryByteOfEveryChunkArrivesOutOfRegisteredMappings) {
  store(kChunks);
  RegisteredMemory registered(&client_->sdk());
  for (uint32_t i = 0; i < kChunks; ++i) {
    const Completion done = taken(ask(i));
    ASSERT_EQ(done.key_codes[0], StatusCode::kOk);
    registered.follow();
    ASSERT_EQ(cudaMemsetAsync(device_, 0xA5, kChunk, stream_), cudaSuccess);
    start_copies(done.views[0]);
    for (const ViewedSection& section : done.views[0].sections) {
      for (const auto& piece : section.pieces) {
        cudaPointerAttributes attributes{};
        ASSERT_EQ(cudaPointerGetAttributes(&attributes, piece.data()), cudaSuccess);
        ASSERT_EQ(attributes.type, cudaMemoryTypeHost) << "a piece outside of view_memory()";
      }
    }
    wait_for_device();
    ASSERT_TRUE(client_->sdk().view_valid(done.views[0].id));
    ASSERT_TRUE(on_device() == TestClient::content("c" + std::to_string(i), kChunk)) << i;
    client_->sdk().release_view(done.views[0].id);
  }
  std::printf("%u chunks of 32 MiB out of %zu registered mappings\n", kChunks, registered.size());
  EXPECT_GE(registered.size(), 2u) << "512 MiB do not lie in one slab of 256";
}

TEST_F(ViewToGpu, OneLaunchScattersAViewIntoAPagedPool) {
  store(kChunks);
  make_tables();
  RegisteredMemory registered(&client_->sdk());
  for (uint32_t i = 0; i < kChunks; ++i) {
    const Completion done = taken(ask(i));
    registered.follow();
    ASSERT_EQ(cudaMemsetAsync(device_, 0xA5, kChunk, stream_), cudaSuccess);
    start_scatter(done.views[0]);
    wait_for_device();
    ASSERT_TRUE(client_->sdk().view_valid(done.views[0].id));
    const std::vector<std::byte> wanted = TestClient::content("c" + std::to_string(i), kChunk);
    const std::vector<std::byte> seen = on_device();
    for (uint64_t n = 0; n < uint64_t{kSections} * kBlocks; ++n) {
      const uint64_t to = n / kBlocks * kBlocks + (kBlocks - 1 - n % kBlocks);
      ASSERT_EQ(
          std::memcmp(seen.data() + to * kBlockBytes, wanted.data() + n * kBlockBytes, kBlockBytes),
          0)
          << "chunk " << i << " block " << n;
    }
    client_->sdk().release_view(done.views[0].id);
  }
  std::printf("%u sections read in place, %u put together from pieces\n", sections_read_in_place_,
              sections_put_together_);
  EXPECT_GT(sections_read_in_place_, 0u);
}

TEST_F(ViewToGpu, ADeadNodeTakesNothingFromUnderTheDevice) {
  store(1);
  RegisteredMemory registered(&client_->sdk());
  const Completion done = taken(ask(0));
  registered.follow();
  node_->kill();
  for (int i = 0; i < 200 && client_->sdk().view_valid(done.views[0].id); ++i) {
    std::this_thread::sleep_for(milliseconds(20));
  }
  start_copies(done.views[0]);
  wait_for_device();
  EXPECT_TRUE(on_device() == TestClient::content("c0", kChunk)) << "readable, though not valid";
  EXPECT_FALSE(client_->sdk().view_valid(done.views[0].id));
  client_->sdk().release_view(done.views[0].id);
  for (int i = 0; i < 200 && !client_->sdk().view_memory().empty(); ++i) {
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_TRUE(client_->sdk().view_memory().empty());
  registered.follow();
  EXPECT_EQ(registered.size(), 0u);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

/// Seconds per chunk of `way`, which brings chunks 0 .. count-1 to the device.
double seconds_per_chunk(const std::function<void(uint32_t count)>& way) {
  constexpr uint32_t kCount = 64;
  const auto begin = std::chrono::steady_clock::now();
  way(kCount);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  return took.count() / kCount;
}

class ViewToGpuRates : public ViewToGpu {
 protected:
  /// Views `depth` at a time: asked for, copied, checked, released.
  void by_view(uint32_t count, uint32_t depth, RegisteredMemory* registered, bool scatter = false) {
    std::deque<StatusOr<OpId>> asked;
    for (uint32_t i = 0; i < count + depth; ++i) {
      if (i < count) asked.push_back(ask(i));
      if (i + 1 < depth || asked.empty()) continue;
      const Completion done = taken(asked.front());
      asked.pop_front();
      if (registered != nullptr) registered->follow();
      if (scatter) {
        start_scatter(done.views[0]);
      } else {
        start_copies(done.views[0]);
      }
      wait_for_device();
      ASSERT_TRUE(client_->sdk().view_valid(done.views[0].id));
      client_->sdk().release_view(done.views[0].id);
    }
  }
  /// Fetches into slots of pinned memory, `depth` at a time, then one copy of each.
  void by_fetch(uint32_t count, uint32_t depth, std::byte* pinned, RegionId region) {
    std::deque<StatusOr<OpId>> asked;
    for (uint32_t i = 0; i < count + depth; ++i) {
      const uint64_t slot = (i % depth) * kChunk;
      if (i >= depth) {
        const Completion done = taken(asked.front());
        asked.pop_front();
        ASSERT_EQ(cudaMemcpyAsync(device_, pinned + slot, kChunk, cudaMemcpyHostToDevice, stream_),
                  cudaSuccess);
        wait_for_device();
      }
      if (i >= count) continue;
      const Fragment whole{0, region, slot, kChunk};
      const FetchItem item{keys_[i % keys_.size()], {&whole, 1}};
      asked.push_back(client_->sdk().fetch(client_->ns(), {&item, 1}, {}));
    }
  }
  void by_plain_copy(uint32_t count, const std::byte* pinned) {
    for (uint32_t i = 0; i < count; ++i) {
      ASSERT_EQ(cudaMemcpyAsync(device_, pinned + (i % 4) * kChunk, kChunk, cudaMemcpyHostToDevice,
                                stream_),
                cudaSuccess);
      wait_for_device();
    }
  }
};

TEST_F(ViewToGpuRates, ViewsComeCloseToPinnedMemory) {
  store(kChunks);
  make_tables();
  void* memory = nullptr;
  ASSERT_EQ(cudaMallocHost(&memory, 4 * kChunk), cudaSuccess);
  auto* const pinned = static_cast<std::byte*>(memory);
  const auto region = client_->sdk().register_memory({pinned, 4 * kChunk});
  ASSERT_TRUE(region.ok());
  RegisteredMemory registered(&client_->sdk());
  const std::vector<std::pair<const char*, std::function<void(uint32_t)>>> ways = {
      {"cudaMallocHost, copies alone (ceiling)", [&](uint32_t n) { by_plain_copy(n, pinned); }},
      {"view, 1 at a time, registered", [&](uint32_t n) { by_view(n, 1, &registered); }},
      {"view, 4 at a time, registered", [&](uint32_t n) { by_view(n, 4, &registered); }},
      {"view, 4 at a time, scattered by one launch",
       [&](uint32_t n) { by_view(n, 4, &registered, true); }},
      {"fetch over shm into pinned, then copy, 1",
       [&](uint32_t n) { by_fetch(n, 1, pinned, *region); }},
      {"fetch over shm into pinned, then copy, 4",
       [&](uint32_t n) { by_fetch(n, 4, pinned, *region); }},
  };
  std::vector<std::vector<double>> rates(ways.size());
  for (int round = -1; round < 5; ++round) {  // the first one does not count
    for (size_t w = 0; w < ways.size(); ++w) {
      const double rate = static_cast<double>(kChunk) / seconds_per_chunk(ways[w].second) / 1e9;
      if (round >= 0) rates[w].push_back(rate);
    }
  }
  const auto median = [](std::vector<double> of) {
    std::sort(of.begin(), of.end());
    return of[of.size() / 2];
  };
  for (size_t w = 0; w < ways.size(); ++w) {
    std::printf("%-44s %6.2f GB/s  %.2f of pinned\n", ways[w].first, median(rates[w]),
                median(rates[w]) / median(rates[0]));
  }
  EXPECT_GE(median(rates[2]) / median(rates[0]), kOfPinnedMin);
  EXPECT_TRUE(client_->sdk().unregister_memory(*region).ok());
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

TEST_F(ViewToGpuRates, UnregisteredViewsAreRightToo) {
  store(kChunks);
  by_view(kChunks, 1, nullptr);
  EXPECT_TRUE(on_device() == TestClient::content("c" + std::to_string(kChunks - 1), kChunk));
  const double took = seconds_per_chunk([&](uint32_t n) { by_view(n, 4, nullptr); });
  std::printf("%-44s %6.2f GB/s\n", "view, 4 at a time, not registered",
              static_cast<double>(kChunk) / took / 1e9);
}
}  // namespace
}  // namespace terrace::e2e
