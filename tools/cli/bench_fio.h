// tools/cli/bench_fio.h - the ceiling of a disk: fio with 1 MiB blocks over io_uring and O_DIRECT,
// eight in flight, on a file of its own whose blocks were all written before. Blocking.
#pragma once
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "tools/cli/bench_math.h"

namespace terrace {

class FioFile {
 public:
  enum class Content { zeroes, noise };
  /// Writes every block of a file of `bytes` in `directory`; it goes with this object.
  /// kUnavailable: fio is not installed, or could not write there.
  static StatusOr<FioFile> create(const std::string& directory, uint64_t bytes, Content content);
  FioFile(FioFile&& other) noexcept : path_(std::move(other.path_)), bytes_(other.bytes_) {
    other.path_.clear();
  }
  FioFile& operator=(FioFile&&) = delete;
  ~FioFile();

  /// Sequential reads into registered buffers.
  StatusOr<Figure> read_for(Nanos duration);
  /// Sequential overwrites with one fdatasync per 32 MiB: what a put promises as `nvme`.
  StatusOr<Figure> write_for(Nanos duration);
  /// Random overwrites of 4 KiB, 32 in flight, no fdatasync.
  StatusOr<Figure> write_small_for(Nanos duration);

 private:
  explicit FioFile(std::string path) : path_(std::move(path)) {}
  std::string path_;
  uint64_t bytes_ = 0;
};
}  // namespace terrace
