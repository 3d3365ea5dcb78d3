// Slabs of device memory: the suite that the twin passes too, with this program run a second time
// as the process that opens them; then copies of whole objects beside what cudaMallocHost memory
// reaches with the same pieces.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/accelerator_contract.h"
#include "kernels/check/check.h"
#include "kernels/cuda_accelerator.h"

namespace terrace::gpu_check {
namespace {

constexpr uint64_t kObject = uint64_t{32} << 20;
constexpr uint64_t kPiece = uint64_t{1} << 20;  // the largest extent of a slab
constexpr double kRegisteredMin = 0.9;          // of cudaMallocHost

std::string in_hex(const DeviceSlabHandle& handle) {
  std::string text;
  for (const std::byte b : handle.bytes) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", std::to_integer<unsigned>(b));
    text += two;
  }
  return text;
}

bool seen_by_another_process(const DeviceSlabHandle& handle, uint64_t bytes, uint64_t seed) {
  const std::string hex = in_hex(handle);
  const std::string size = std::to_string(bytes);
  const std::string number = std::to_string(seed);
  const pid_t child = ::fork();
  if (child == 0) {  // only exec from here: what was forked cannot use CUDA
    ::execl("/proc/self/exe", "gpu_check", "--opened", hex.c_str(), size.c_str(), number.c_str(),
            nullptr);
    ::_exit(127);
  }
  int status = 0;
  return child > 0 && ::waitpid(child, &status, 0) == child && WIFEXITED(status) &&
         WEXITSTATUS(status) == 0;
}

std::unique_ptr<Accelerator> first_device() {
  std::unique_ptr<Accelerator> made;
  must(make_cuda_accelerator(0, &made));
  return made;
}

/// One object's copy, waited for.
void move_object(DeviceSlab* slab, std::byte* host, bool in) {
  std::mutex mutex;
  std::condition_variable changed;
  bool over = false;
  DeviceResult result;
  std::vector<DeviceSlab::Piece> pieces;
  for (uint64_t at = 0; at < kObject; at += kPiece) pieces.push_back({at, host + at, kPiece});
  const auto ended = [&](const DeviceResult& status) {
    const std::lock_guard lock(mutex);
    result = status;
    over = true;
    changed.notify_one();
  };
  must(in ? slab->copy_in(pieces, ended) : slab->copy_out(pieces, ended));
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return over; });
  must(result);
}

double gb_per_s(double seconds) {
  return static_cast<double>(kObject) / seconds * 1e-9;
}

/// The ceiling: the same pieces between cudaMallocHost memory and the device, one stream.
double ceiling_seconds(const DeviceBuffer& device, bool in) {
  void* host = nullptr;
  must(cudaMallocHost(&host, kObject), "cudaMallocHost");
  auto* const at = static_cast<std::byte*>(host);
  const double seconds = seconds_per_call(5, 16, nullptr, [&] {
    for (uint64_t done = 0; done < kObject; done += kPiece) {
      must(cudaMemcpyAsync(in ? device.data() + done : at + done,
                           in ? at + done : device.data() + done, kPiece,
                           in ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost, nullptr),
           "cudaMemcpyAsync");
    }
    must(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");
  });
  must(cudaFreeHost(host), "cudaFreeHost");
  return seconds;
}
}  // namespace

int opened_elsewhere(const std::vector<std::string>& words) {
  if (words.size() != 4 || words[1].size() != 2 * sizeof(DeviceSlabHandle::bytes)) return 3;
  DeviceSlabHandle handle;
  for (size_t i = 0; i < handle.bytes.size(); ++i) {
    handle.bytes[i] = static_cast<std::byte>(std::stoul(words[1].substr(2 * i, 2), nullptr, 16));
  }
  const uint64_t bytes = std::stoull(words[2]);
  std::vector<std::byte> expected(bytes), seen(bytes);
  fill_from(std::stoull(words[3]), expected);
  const std::unique_ptr<Accelerator> accelerator = first_device();
  std::unique_ptr<OpenedSlab> opened;
  must(accelerator->open_slab(handle, bytes, &opened));
  must(cudaMemcpy(seen.data(), opened->address(), bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
  if (seen != expected) return 1;
  std::vector<std::byte> tail(bytes / 2);
  must(opened->read(bytes - tail.size(), tail));
  return std::equal(tail.begin(), tail.end(), expected.end() - std::ssize(tail)) ? 0 : 1;
}

void check_accelerator(Table* table) {
  table->section("Slabs of device memory");
  const std::unique_ptr<Accelerator> accelerator = first_device();
  for (const ContractResult& result :
       terrace::check_accelerator(accelerator.get(), seen_by_another_process)) {
    table->check(result.promise, result.held, result.detail);
  }
}

void measure_accelerator(Table* table) {
  table->section("Objects of 32 MiB in pieces of 1 MiB between a slab and registered host memory");
  const std::unique_ptr<Accelerator> accelerator = first_device();
  std::unique_ptr<DeviceSlab> slab;
  must(accelerator->make_slab(kObject, &slab));
  const int file = ::memfd_create("arena", MFD_CLOEXEC);
  if (file < 0 || ::ftruncate(file, static_cast<off_t>(kObject)) != 0) {
    return table->check("a memory file for the measurement", false);
  }
  void* const mapped = ::mmap(nullptr, kObject, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  ::close(file);
  if (mapped == MAP_FAILED) return table->check("a mapping for the measurement", false);
  auto* const host = static_cast<std::byte*>(mapped);
  must(accelerator->expect_host({host, kObject}));
  const DeviceBuffer device(kObject);
  for (const bool in : {true, false}) {
    const double best = ceiling_seconds(device, in);
    const double seconds =
        seconds_per_call(5, 16, nullptr, [&] { move_object(slab.get(), host, in); });
    table->rate(in ? "into the slab, one object at a time" : "out of the slab, one at a time",
                gb_per_s(seconds), best / seconds, kRegisteredMin);
  }
  must(accelerator->forget_host({host, kObject}));
  ::munmap(mapped, kObject);
}
}  // namespace terrace::gpu_check
