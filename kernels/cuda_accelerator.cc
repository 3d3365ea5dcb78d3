#include "kernels/cuda_accelerator.h"

#include <atomic>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "kernels/copy_lane.h"
#include "kernels/cuda_said.h"
#include "kernels/host_registration.h"

namespace terrace {
namespace {

static_assert(sizeof(cudaIpcMemHandle_t) == sizeof(DeviceSlabHandle::bytes));

/// This thread's calls go to the device; each thread has a choice of its own.
DeviceResult choose(int ordinal) {
  return cuda_said(cudaSetDevice(ordinal), "choosing device " + std::to_string(ordinal));
}

/// The same for threads that are an engine's: they have their own choice back afterwards.
class Choice {
 public:
  explicit Choice(int ordinal) {
    if (cudaGetDevice(&before_) != cudaSuccess) before_ = -1;
    status_ = choose(ordinal);
  }
  Choice(const Choice&) = delete;
  Choice& operator=(const Choice&) = delete;
  ~Choice() {
    if (before_ >= 0) (void)cudaSetDevice(before_);
  }
  const DeviceResult& status() const { return status_; }

 private:
  int before_ = -1;
  DeviceResult status_;
};

/// A stream, and events on it that a thread waits for.
class Direction {
 public:
  explicit Direction(int ordinal) : ordinal_(ordinal) {}
  DeviceResult open() {
    return cuda_said(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
  }
  /// The lane's thread is through with all events by then.
  ~Direction() {
    lane_.reset();
    if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
  }
  DeviceResult copy(std::byte* slab, std::span<const DeviceSlab::Piece> pieces, bool in,
                    DeviceSlab::Ended ended) {
    DeviceResult status = choose(ordinal_);
    for (const DeviceSlab::Piece& piece : pieces) {
      if (!status.ok()) break;
      std::byte* const there = slab + piece.offset;
      status =
          cuda_said(cudaMemcpyAsync(in ? there : piece.host, in ? piece.host : there, piece.bytes,
                                    in ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost, stream_),
                    "a copy of " + std::to_string(piece.bytes) + " bytes");
    }
    cudaEvent_t event = nullptr;
    if (status.ok()) {
      const unsigned flags = cudaEventBlockingSync | cudaEventDisableTiming;
      status = cuda_said(cudaEventCreateWithFlags(&event, flags), "an event");
    }
    if (status.ok()) status = cuda_said(cudaEventRecord(event, stream_), "recording an event");
    // Pieces that were started before one failed still run, and what they touch must rest: wait for
    // the stream in the lane's thread as well.
    lane_->add(
        [this, event, status] {
          DeviceResult over = choose(ordinal_);
          const cudaError_t waited =
              event != nullptr ? cudaEventSynchronize(event) : cudaStreamSynchronize(stream_);
          if (over.ok()) over = cuda_said(waited, "waiting for a copy");
          if (event != nullptr) (void)cudaEventDestroy(event);
          return status.ok() ? over : status;
        },
        std::move(ended));
    return {};
  }

 private:
  const int ordinal_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<CopyLane> lane_ = std::make_unique<CopyLane>();
};

class CudaSlab final : public DeviceSlab {
 public:
  CudaSlab(int ordinal, uint64_t bytes)
      : ordinal_(ordinal), bytes_(bytes), in_(ordinal), out_(ordinal) {}
  DeviceResult open() {
    DeviceResult status = choose(ordinal_);
    if (status.ok()) {
      status = cuda_said(cudaMalloc(reinterpret_cast<void**>(&at_), bytes_),
                         std::to_string(bytes_) + " bytes of device memory");
    }
    if (status.ok()) status = cuda_said(cudaMemset(at_, 0, bytes_), "clearing device memory");
    if (status.ok()) status = cuda_said(cudaDeviceSynchronize(), "clearing device memory");
    if (status.ok()) status = in_.open();
    if (status.ok()) status = out_.open();
    return status;
  }
  ~CudaSlab() override {
    (void)choose(ordinal_);
    (void)cudaDeviceSynchronize();
    if (at_ != nullptr) (void)cudaFree(at_);
  }
  uint64_t size_bytes() const override { return bytes_; }
  DeviceResult copy_in(std::span<const Piece> pieces, Ended ended) override {
    return start(pieces, std::move(ended), true);
  }
  DeviceResult copy_out(std::span<const Piece> pieces, Ended ended) override {
    return start(pieces, std::move(ended), false);
  }
  DeviceResult handle(DeviceSlabHandle* out) const override {
    cudaIpcMemHandle_t handle{};
    DeviceResult status = choose(ordinal_);
    if (status.ok()) {
      status = cuda_said(cudaIpcGetMemHandle(&handle, at_), "a handle of device memory");
    }
    if (status.ok()) std::memcpy(out->bytes.data(), &handle, sizeof handle);
    return status;
  }

 private:
  DeviceResult start(std::span<const Piece> pieces, Ended ended, bool in) {
    std::string wrong = outside_of(pieces, bytes_);
    if (!wrong.empty()) return {cudaErrorInvalidValue, std::move(wrong)};
    return (in ? in_ : out_).copy(at_, pieces, in, std::move(ended));
  }
  const int ordinal_;
  const uint64_t bytes_;
  std::byte* at_ = nullptr;
  Direction in_, out_;
};

class CudaOpened final : public OpenedSlab {
 public:
  CudaOpened(int ordinal, std::byte* at) : ordinal_(ordinal), at_(at) {}
  ~CudaOpened() override {
    const Choice choice(ordinal_);
    (void)cudaIpcCloseMemHandle(at_);
  }
  std::byte* address() const override { return at_; }
  DeviceResult read(uint64_t offset, std::span<std::byte> into) const override {
    const Choice choice(ordinal_);
    if (!choice.status().ok()) return choice.status();
    return cuda_said(cudaMemcpy(into.data(), at_ + offset, into.size(), cudaMemcpyDeviceToHost),
                     "reading " + std::to_string(into.size()) + " bytes of another process's slab");
  }

 private:
  const int ordinal_;
  std::byte* const at_;
};

class CudaAccelerator final : public Accelerator {
 public:
  CudaAccelerator(int ordinal, std::string device)
      : ordinal_(ordinal), name_("cuda:" + std::to_string(ordinal) + " " + std::move(device)) {}
  std::string name() const override { return name_; }
  DeviceResult make_slab(uint64_t bytes, std::unique_ptr<DeviceSlab>* out) override {
    auto slab = std::make_unique<CudaSlab>(ordinal_, bytes);
    DeviceResult status = slab->open();
    if (status.ok()) *out = std::move(slab);
    return status;
  }
  DeviceResult expect_host(std::span<std::byte> memory) override {
    HostRegistration registration;
    DeviceResult status = choose(ordinal_);
    if (status.ok()) {
      status = HostRegistration::create(memory, HostAccess::read_write, &registration);
    }
    if (status.ok()) expected_[memory.data()] = std::move(registration);
    return status;
  }
  DeviceResult forget_host(std::span<std::byte> memory) override {
    const auto it = expected_.find(memory.data());
    if (it == expected_.end()) return {};
    DeviceResult status = it->second.end();
    expected_.erase(it);
    return status;
  }
  DeviceResult open_slab(const DeviceSlabHandle& handle, uint64_t,
                         std::unique_ptr<OpenedSlab>* out) override {
    DeviceResult status = choose(ordinal_);
    cudaIpcMemHandle_t theirs{};
    std::memcpy(&theirs, handle.bytes.data(), sizeof theirs);
    void* at = nullptr;
    if (status.ok()) {
      status = cuda_said(cudaIpcOpenMemHandle(&at, theirs, cudaIpcMemLazyEnablePeerAccess),
                         "opening another process's device memory");
    }
    if (status.ok()) *out = std::make_unique<CudaOpened>(ordinal_, static_cast<std::byte*>(at));
    return status;
  }

 private:
  const int ordinal_;
  const std::string name_;
  std::unordered_map<const std::byte*, HostRegistration> expected_;  // by their first byte
};
}  // namespace

DeviceResult make_cuda_accelerator(int ordinal, std::unique_ptr<Accelerator>* out) {
  cudaDeviceProp properties{};
  DeviceResult status =
      cuda_said(cudaGetDeviceProperties(&properties, ordinal), "device " + std::to_string(ordinal));
  if (status.ok()) status = choose(ordinal);
  if (status.ok()) *out = std::make_unique<CudaAccelerator>(ordinal, properties.name);
  return status;
}
}  // namespace terrace
