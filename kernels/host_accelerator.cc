#include "kernels/host_accelerator.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/copy_lane.h"

namespace terrace {
namespace {

// CUDA's numbers for the same errors.
constexpr int kInvalidValue = 1;
constexpr int kMemoryAllocation = 2;

/// What a handle of this twin holds.
struct Words {
  uint64_t magic = 0;
  int64_t process = 0;
  int64_t file = 0;
  uint64_t bytes = 0;
  uint64_t inode = 0;  // of the memory file: the number may be another file's by now
};
constexpr uint64_t kMagic = 0x42414C53'54534F48;  // "HOSTSLAB" in memory order
static_assert(sizeof(Words) <= sizeof(DeviceSlabHandle::bytes));

DeviceResult failed(int code, const std::string& what) {
  return {code, what + ": " + std::strerror(errno)};
}

/// A shared mapping; unmapped on destruction.
class Mapping {
 public:
  static std::byte* map(int file, uint64_t bytes) {
    void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    return at == MAP_FAILED ? nullptr : static_cast<std::byte*>(at);
  }
  Mapping(std::byte* at, uint64_t bytes) : at_(at), bytes_(bytes) {}
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { ::munmap(at_, bytes_); }
  std::byte* at() const { return at_; }
  uint64_t bytes() const { return bytes_; }

 private:
  std::byte* const at_;
  const uint64_t bytes_;
};

class HostSlab final : public DeviceSlab {
 public:
  HostSlab(int file, std::byte* at, uint64_t bytes) : file_(file), memory_(at, bytes) {}
  ~HostSlab() override { ::close(file_); }
  uint64_t size_bytes() const override { return memory_.bytes(); }
  DeviceResult copy_in(std::span<const Piece> pieces, Ended ended) override {
    return start(pieces, std::move(ended), true);
  }
  DeviceResult copy_out(std::span<const Piece> pieces, Ended ended) override {
    return start(pieces, std::move(ended), false);
  }
  DeviceResult handle(DeviceSlabHandle* out) const override {
    struct stat found {};
    if (::fstat(file_, &found) != 0) return failed(kInvalidValue, "a handle of a slab");
    const Words words{kMagic, ::getpid(), file_, memory_.bytes(), found.st_ino};
    std::memcpy(out->bytes.data(), &words, sizeof words);
    return {};
  }

 private:
  DeviceResult start(std::span<const Piece> pieces, Ended ended, bool in) {
    std::string wrong = outside_of(pieces, size_bytes());
    if (!wrong.empty()) return {kInvalidValue, std::move(wrong)};
    const auto copy = [this, in, all = std::vector<Piece>(pieces.begin(), pieces.end())] {
      for (const Piece& piece : all) {
        std::byte* const there = memory_.at() + piece.offset;
        std::memcpy(in ? there : piece.host, in ? piece.host : there, piece.bytes);
      }
      return DeviceResult();
    };
    (in ? in_ : out_).add(copy, std::move(ended));
    return {};
  }
  const int file_;
  const Mapping memory_;
  CopyLane in_, out_;  // end before the memory does
};

class HostOpened final : public OpenedSlab {
 public:
  HostOpened(std::byte* at, uint64_t bytes) : memory_(at, bytes) {}
  std::byte* address() const override { return memory_.at(); }
  DeviceResult read(uint64_t offset, std::span<std::byte> into) const override {
    if (offset > memory_.bytes() || into.size() > memory_.bytes() - offset) {
      return {kInvalidValue, std::to_string(into.size()) + " bytes from " + std::to_string(offset) +
                                 " on are not in the slab"};
    }
    std::memcpy(into.data(), memory_.at() + offset, into.size());
    return {};
  }

 private:
  const Mapping memory_;
};
}  // namespace

DeviceResult HostAccelerator::make_slab(uint64_t bytes, std::unique_ptr<DeviceSlab>* out) {
  const std::string what = "a slab of " + std::to_string(bytes) + " bytes";
  if (bytes == 0) return {kInvalidValue, what};
  const int file = ::memfd_create("terrace-hbm", MFD_CLOEXEC);
  if (file < 0) return failed(kMemoryAllocation, what);
  if (::ftruncate(file, static_cast<off_t>(bytes)) != 0) {
    DeviceResult status = failed(kMemoryAllocation, what);
    ::close(file);
    return status;
  }
  std::byte* const at = Mapping::map(file, bytes);
  if (at == nullptr) {
    DeviceResult status = failed(kMemoryAllocation, what);
    ::close(file);
    return status;
  }
  *out = std::make_unique<HostSlab>(file, at, bytes);
  return {};
}

DeviceResult HostAccelerator::expect_host(std::span<std::byte>) {
  return {};
}
DeviceResult HostAccelerator::forget_host(std::span<std::byte>) {
  return {};
}

DeviceResult HostAccelerator::open_slab(const DeviceSlabHandle& handle, uint64_t bytes,
                                        std::unique_ptr<OpenedSlab>* out) {
  Words words;
  std::memcpy(&words, handle.bytes.data(), sizeof words);
  if (words.magic != kMagic || words.process == ::getpid() || words.bytes != bytes) {
    return {kInvalidValue,
            "not the handle of another process's slab of " + std::to_string(bytes) + " bytes"};
  }
  const std::string path =
      "/proc/" + std::to_string(words.process) + "/fd/" + std::to_string(words.file);
  const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) return failed(kInvalidValue, path);
  struct stat found {};
  const bool same = ::fstat(file, &found) == 0 && S_ISREG(found.st_mode) &&
                    found.st_ino == words.inode &&
                    static_cast<uint64_t>(found.st_size) == words.bytes && words.bytes > 0;
  std::byte* const at = same ? Mapping::map(file, words.bytes) : nullptr;
  ::close(file);
  if (at == nullptr) return {kInvalidValue, path + " is no slab, or another one by now"};
  *out = std::make_unique<HostOpened>(at, words.bytes);
  return {};
}
}  // namespace terrace
