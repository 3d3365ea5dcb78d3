#include "storage/data_file_io.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/buffer.h"
#include "base/limits.h"

namespace terrace {

Status write_all(int fd, std::span<const std::byte> bytes, uint64_t offset,
                 const std::string& what) {
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return errno_status(put < 0 ? errno : ENOSPC, "write " + what);
    bytes = bytes.subspan(static_cast<size_t>(put));
    offset += static_cast<uint64_t>(put);
  }
  return ok_status();
}

Status write_zeroes(int fd, uint64_t first, uint64_t end, const std::string& path,
                    const std::function<bool(uint64_t done)>& step) {
  TERRACE_ASSIGN_OR_RETURN(AlignedBuffer zeroes, AlignedBuffer::allocate(kMiB));
  for (uint64_t at = first; at < end; at += kMiB) {
    const size_t piece = static_cast<size_t>(std::min<uint64_t>(kMiB, end - at));
    TERRACE_RETURN_IF_ERROR(write_all(fd, zeroes.span().first(piece), at, path));
    if (!step(at + piece)) return error(StatusCode::kCancelled, path + ": called off");
  }
  return ok_status();
}

Status write_identity(int fd, const DataFileIdentity& identity, const std::string& path) {
  TERRACE_ASSIGN_OR_RETURN(AlignedBuffer block, AlignedBuffer::allocate(DataFileIdentity::kBytes));
  encode(identity, block.span());
  TERRACE_RETURN_IF_ERROR(write_all(fd, block.span(), 0, path));
  if (::fsync(fd) != 0) return errno_status(errno, "fsync " + path);
  return ok_status();
}

StatusOr<uint64_t> size_of(int fd, const std::string& path, bool* block_device) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return errno_status(errno, "stat " + path);
  *block_device = S_ISBLK(info.st_mode);
  if (!*block_device && !S_ISREG(info.st_mode)) {
    return error(StatusCode::kFailedPrecondition, path + " is neither a file nor a block device");
  }
  if (!*block_device) return static_cast<uint64_t>(info.st_size);
  uint64_t bytes = 0;
  if (::ioctl(fd, BLKGETSIZE64, &bytes) != 0) return errno_status(errno, "size of " + path);
  return bytes;
}
}  // namespace terrace
