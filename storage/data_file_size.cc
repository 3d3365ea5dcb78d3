// Another size of a data file.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/check.h"
#include "base/log.h"
#include "storage/data_file.h"
#include "storage/data_file_io.h"

namespace terrace {

Status DataFile::resize(uint64_t bytes, const GoOn& go_on) {
  TERRACE_CHECK(bytes > 0 && bytes % DataFileIdentity::kBytes == 0);
  stop_ = true;
  if (filler_.joinable()) filler_.join();
  if (bytes > size_bytes()) {
    const Status longer = lengthen(bytes, go_on);
    const auto end = static_cast<off_t>(std::max(size_bytes(), said_bytes_));
    if (!longer.ok() && !block_device_) (void)::ftruncate(fd(), end);
    TERRACE_RETURN_IF_ERROR(longer);
  }
  DataFileIdentity now = identity_;
  now.bytes = bytes;
  if (const Status said = write_identity(fd(), now, path_); !said.ok()) {
    said_bytes_ = std::max(said_bytes_, bytes);
    const Status back = write_identity(fd(), identity_, path_);
    return back.ok() ? said : error(StatusCode::kDataLoss, said.message());
  }
  said_bytes_ = 0;
  const bool shorter = bytes < size_bytes();
  identity_ = now;
  zeroed_ = bytes;
  if (shorter && !block_device_ && ::ftruncate(fd(), static_cast<off_t>(bytes)) != 0) {
    spdlog::warn("event=nvme_file_not_cut path={} error=\"{}\": the next start does it", path_,
                 errno_status(errno, "truncate").to_string());
  }
  return ok_status();
}

/// Space for so many bytes, durably reserved.
Status DataFile::lengthen(uint64_t bytes, const GoOn& go_on) {
  constexpr uint64_t kZeroesMax = kGiB;
  const uint64_t before = size_bytes();
  if (block_device_) {
    TERRACE_ASSIGN_OR_RETURN(const uint64_t there, size_of(fd(), path_, &block_device_));
    if (bytes <= there) return ok_status();
    return error(StatusCode::kResourceExhausted,
                 path_ + " has " + std::to_string(there) + " bytes, not " + std::to_string(bytes));
  }
  bool write = bytes - before <= kZeroesMax;
  if (::fallocate(fd(), 0, static_cast<off_t>(before), static_cast<off_t>(bytes - before)) != 0) {
    if (errno != EOPNOTSUPP) {
      return errno_status(errno, "reserve " + std::to_string(bytes) + " bytes for " + path_);
    }
    write = true;  // the only way left to be sure of the space
  }
  // Flushed on the way, so that no flush takes long that cannot be called off.
  constexpr uint64_t kFlushBytes = 64 * kMiB;
  for (uint64_t at = before; write && at < bytes; at += kFlushBytes) {
    const uint64_t end = std::min(at + kFlushBytes, bytes);
    TERRACE_RETURN_IF_ERROR(
        write_zeroes(fd(), at, end, path_, [&](uint64_t) { return !go_on || go_on(); }));
    if (!direct_ && ::fdatasync(fd()) != 0) return errno_status(errno, "fdatasync " + path_);
  }
  if (::fsync(fd()) != 0) return errno_status(errno, "fsync " + path_);
  if (go_on && !go_on()) return error(StatusCode::kCancelled, path_ + ": called off");
  return ok_status();
}
}  // namespace terrace
