// Goal: the twin of the accelerator keeps the accelerator's contract, so that what is tested over
// it holds on a GPU, where gpu_check runs the same suite. Method: the suite, with a forked process
// as the one that opens slabs; hostile handles.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "kernels/accelerator_contract.h"
#include "kernels/host_accelerator.h"

namespace terrace {
namespace {

bool seen_by_a_child(const DeviceSlabHandle& handle, uint64_t bytes, uint64_t seed) {
  const pid_t child = ::fork();
  if (child == 0) {
    HostAccelerator accelerator;
    std::unique_ptr<OpenedSlab> opened;
    if (!accelerator.open_slab(handle, bytes, &opened).ok()) ::_exit(2);
    std::vector<std::byte> expected(bytes), seen(bytes);
    fill_from(seed, expected);
    if (opened->read(bytes - 1, seen).ok() || !opened->read(0, seen).ok()) ::_exit(3);
    const bool same = std::memcmp(opened->address(), expected.data(), bytes) == 0;
    ::_exit(same && seen == expected ? 0 : 1);
  }
  int status = 0;
  return child > 0 && ::waitpid(child, &status, 0) == child && WIFEXITED(status) &&
         WEXITSTATUS(status) == 0;
}

TEST(AcceleratorTest, the_twin_keeps_the_contract) {
  HostAccelerator accelerator;
  const std::vector<ContractResult> results = check_accelerator(&accelerator, seen_by_a_child);
  EXPECT_GE(results.size(), 20u);
  for (const ContractResult& result : results) {
    EXPECT_TRUE(result.held) << result.promise << ": " << result.detail;
  }
}

/// A twin that damages one byte of what it copies out: the suite must see it.
class Damaging final : public Accelerator {
 public:
  class Slab final : public DeviceSlab {
   public:
    explicit Slab(std::unique_ptr<DeviceSlab> inner) : inner_(std::move(inner)) {}
    uint64_t size_bytes() const override { return inner_->size_bytes(); }
    DeviceResult copy_in(std::span<const Piece> pieces, Ended ended) override {
      return inner_->copy_in(pieces, std::move(ended));
    }
    DeviceResult copy_out(std::span<const Piece> pieces, Ended ended) override {
      const std::vector<Piece> all(pieces.begin(), pieces.end());
      return inner_->copy_out(all, [all, ended = std::move(ended)](const DeviceResult& status) {
        if (!all.empty() && all[0].bytes > 99) all[0].host[99] ^= std::byte{1};
        ended(status);
      });
    }
    DeviceResult handle(DeviceSlabHandle* out) const override { return inner_->handle(out); }

   private:
    const std::unique_ptr<DeviceSlab> inner_;
  };
  std::string name() const override { return "damaging"; }
  DeviceResult make_slab(uint64_t bytes, std::unique_ptr<DeviceSlab>* out) override {
    std::unique_ptr<DeviceSlab> inner;
    DeviceResult status = host_.make_slab(bytes, &inner);
    if (status.ok()) *out = std::make_unique<Slab>(std::move(inner));
    return status;
  }
  DeviceResult expect_host(std::span<std::byte> memory) override {
    return host_.expect_host(memory);
  }
  DeviceResult forget_host(std::span<std::byte> memory) override {
    return host_.forget_host(memory);
  }
  DeviceResult open_slab(const DeviceSlabHandle& handle, uint64_t bytes,
                         std::unique_ptr<OpenedSlab>* out) override {
    return host_.open_slab(handle, bytes, out);
  }

 private:
  HostAccelerator host_;
};

TEST(AcceleratorTest, canary_the_suite_sees_a_damaged_byte) {
  Damaging accelerator;
  size_t broken = 0;
  for (const ContractResult& result : check_accelerator(&accelerator, seen_by_a_child)) {
    if (!result.held) ++broken;
  }
  EXPECT_GE(broken, 3u);
}

TEST(AcceleratorTest, hostile_handles_are_refused) {
  HostAccelerator accelerator;
  std::unique_ptr<DeviceSlab> slab;
  ASSERT_TRUE(accelerator.make_slab(4096, &slab).ok());
  DeviceSlabHandle good;
  ASSERT_TRUE(slab->handle(&good).ok());
  for (size_t at = 0; at < 40; ++at) {  // every byte that means something
    DeviceSlabHandle bad = good;
    bad.bytes[at] ^= std::byte{0x5A};
    std::unique_ptr<OpenedSlab> opened;
    EXPECT_FALSE(accelerator.open_slab(bad, 4096, &opened).ok()) << at;
    EXPECT_EQ(opened, nullptr);
  }
}
}  // namespace
}  // namespace terrace
