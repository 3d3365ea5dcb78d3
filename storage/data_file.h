// storage/data_file.h - the file or block device that holds the nvme tier: who it belongs to, its
// creation, and the zeroes written ahead of first use. docs/formats.md specifies the identity
// block.
//
// A preallocated extent that was never written is slower to write than one that was, so a new file
// is filled with zeroes: small ones before they are used, others by a thread in the background,
// which never touches a place that was written or is about to be. Nothing is wrong without it.
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>

#include "base/handle.h"
#include "base/limits.h"
#include "base/status.h"

namespace terrace {

using Uuid = std::array<std::byte, 16>;

/// The first 4 KiB of a data file.
struct DataFileIdentity {
  static constexpr uint32_t kMagic = 0x54414454;    // "TDAT" in memory order
  static constexpr uint16_t kVersion = 1;           // of the device at place 0
  static constexpr uint16_t kVersionWithPlace = 2;  // of others: a build for one refuses them
  static constexpr uint16_t kPlaceMax = 254;
  static constexpr size_t kBytes = 4096;
  uint16_t place = 0;           // which of the directory's devices it is; extents name it
  Uuid device{};                // of this file
  Uuid directory{};             // of the data directory it belongs to
  uint64_t bytes = 0;           // of the file, this block included
  int64_t created_seconds = 0;  // wall clock, since 1970
  bool operator==(const DataFileIdentity&) const = default;
};
/// Writes the block into `into` (kBytes long).
void encode(const DataFileIdentity& identity, std::span<std::byte> into);
/// kDataLoss: not an identity block, or a bad checksum. kFailedPrecondition: a newer version.
StatusOr<DataFileIdentity> decode_identity(std::span<const std::byte> bytes);

/// The identity block of a file or device. kNotFound: no such file. kDataLoss, kFailedPrecondition:
/// as decode_identity. Others: it cannot be read.
StatusOr<DataFileIdentity> read_identity(const std::string& path);

/// One process per data directory: holds a flock on `LOCK` while it lives. Move-only.
class DirectoryLock {
 public:
  /// Creates the directory when it is missing and gives it an id. kUnavailable: another process has
  /// it. kDataLoss: its `IDENTITY` file is damaged.
  static StatusOr<DirectoryLock> acquire(const std::string& directory);
  const std::string& directory() const { return directory_; }
  const Uuid& uuid() const { return uuid_; }

 private:
  DirectoryLock(std::string directory, Fd lock)
      : directory_(std::move(directory)), lock_(std::move(lock)) {}
  std::string directory_;
  Fd lock_;
  Uuid uuid_{};
};

/// Which MiBs of a file somebody wrote, and the one that the filler is at; settles who goes first
/// between the filler's thread and the loop's. Lock-free.
class FillGuard {
 public:
  explicit FillGuard(uint64_t bytes);
  /// Loop: from now on the filler leaves these bytes alone. False while it is just writing there:
  /// start the write later.
  bool claim(uint64_t offset, uint64_t bytes);
  /// Filler: true: write this MiB, then leave(). False: it is taken.
  bool enter(uint64_t mib);
  void leave() { current_.store(kNone); }

 private:
  static constexpr uint64_t kNone = ~uint64_t{0};
  std::unique_ptr<std::atomic<uint64_t>[]> claimed_;  // a bit per MiB
  std::atomic<uint64_t> current_{kNone};
};

/// Thread-confined but for zeroed_bytes().
class DataFile {
 public:
  /// Called with bytes written and bytes to write, on the thread that runs open().
  using Progress = std::function<void(uint64_t done, uint64_t total)>;
  using GoOn = std::function<bool()>;
  struct Options {
    std::string path;                      // a file, created when missing, or a block device
    uint64_t bytes = 0;                    // of one that is made, a multiple of 4 KiB
    uint16_t place = 0;                    // of one that is created or taken over
    uint64_t zero_at_creation_max = kGiB;  // larger files are filled in the background
    bool fill = true;                      // false: leave the rest of the file unwritten
    bool format_block_device = false;      // a device without identity is taken over
    bool make = true;                      // false: nothing is created or taken over
    Progress progress;
  };
  /// `directory` is the id of the data directory (DirectoryLock::uuid). kInvalidArgument: no size,
  /// or a device over 16 TiB that was given none. kResourceExhausted: no space. kDataLoss: damaged
  /// identity, or shorter than it says. kFailedPrecondition: belongs to another directory, was
  /// written by a newer build, or is a block device that was not released for use. One that is
  /// there keeps its size, whatever `options.bytes`. kNotFound: it would have to be made, and
  /// `make` is false. A file that could not be created whole is not left behind.
  static StatusOr<std::unique_ptr<DataFile>> open(const Options& options, const Uuid& directory);
  /// Stops the filler.
  ~DataFile();

  /// Blocking, on any one thread. Makes the file `bytes` long, a multiple of 4 KiB: space for it
  /// first, then the identity block, or the other way round when it becomes smaller; so whoever
  /// dies meanwhile leaves a file of the old or the new size, and what is too long of it is cut
  /// off by open(). A block device is used to that size. The filler stops, until the next open();
  /// up to 1 GiB that is new is written with zeroes; all of it where the file system cannot reserve
  /// space. `go_on` is asked after each MiB of them and before the new size counts, on this thread;
  /// empty: always. Errors after
  /// which nothing has changed: kResourceExhausted (there is no such space), kCancelled (`go_on`
  /// said false). kDataLoss: the device may have either size: nothing may lie behind the smaller
  /// one.
  Status resize(uint64_t bytes, const GoOn& go_on = nullptr);

  int fd() const { return fd_.get(); }
  const DataFileIdentity& identity() const { return identity_; }
  uint64_t size_bytes() const { return identity_.bytes; }
  /// False: the file system has no O_DIRECT; reads and writes go through the page cache.
  bool direct() const { return direct_; }
  bool block_device() const { return block_device_; }
  /// Null when nothing is filled in the background.
  FillGuard* fill_guard() const { return guard_.get(); }
  /// How far the filler came; size_bytes() when all is done. Any thread.
  uint64_t zeroed_bytes() const { return zeroed_.load(std::memory_order_relaxed); }

 private:
  DataFile(std::string path, Fd fd, bool direct)
      : path_(std::move(path)), fd_(std::move(fd)), direct_(direct) {}
  static StatusOr<std::unique_ptr<DataFile>> create(const Options& options, const Uuid& directory);
  static StatusOr<std::unique_ptr<DataFile>> adopt(const Options& options, const Uuid& directory);
  void start_filler();
  void fill();
  Status lengthen(uint64_t bytes, const GoOn& go_on);

  std::string path_;
  Fd fd_;
  bool direct_ = false;
  bool block_device_ = false;
  DataFileIdentity identity_;
  uint64_t said_bytes_ = 0;  // at most what the identity block on the device says
  std::unique_ptr<FillGuard> guard_;
  std::atomic<uint64_t> zeroed_{0};
  std::atomic<bool> stop_{false};
  std::thread filler_;
};
}  // namespace terrace
