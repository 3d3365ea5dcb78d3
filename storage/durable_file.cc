#include "storage/durable_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/handle.h"

namespace terrace {
namespace {
constexpr mode_t kFileMode = 0640;

Status write_beside(const std::string& beside, std::string_view bytes) {
  const Fd fd(::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, kFileMode));
  if (!fd) return errno_status(errno, "create " + beside);
  for (std::string_view left = bytes; !left.empty();) {
    const ssize_t put = ::write(fd.get(), left.data(), left.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return errno_status(put < 0 ? errno : ENOSPC, "write " + beside);
    left.remove_prefix(static_cast<size_t>(put));
  }
  if (::fsync(fd.get()) != 0) return errno_status(errno, "fsync " + beside);
  return ok_status();
}
}  // namespace

Status write_durably(const std::string& directory, const std::string& name,
                     std::string_view bytes) {
  const std::string path = directory + "/" + name;
  const std::string beside = path + ".new";
  Status written = write_beside(beside, bytes);
  if (written.ok() && std::rename(beside.c_str(), path.c_str()) != 0) {
    written = errno_status(errno, "rename " + beside);
  }
  if (!written.ok()) {
    ::unlink(beside.c_str());  // others may need the space
    return written;
  }
  const Fd parent(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent || ::fsync(parent.get()) != 0) return errno_status(errno, "fsync " + directory);
  return ok_status();
}

StatusOr<std::string> read_whole(const std::string& path, size_t bytes_max) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd && errno == ENOENT) return error(StatusCode::kNotFound, "no file " + path);
  if (!fd) return errno_status(errno, "open " + path);
  struct stat found {};
  if (::fstat(fd.get(), &found) != 0) return errno_status(errno, "stat " + path);
  if (static_cast<uint64_t>(found.st_size) > bytes_max) {
    return error(StatusCode::kDataLoss, path + " has " + std::to_string(found.st_size) +
                                            " bytes; at most " + std::to_string(bytes_max));
  }
  std::string bytes(static_cast<size_t>(found.st_size), '\0');
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t got =
        ::pread(fd.get(), bytes.data() + at, bytes.size() - at, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_status(errno, "read " + path);
    if (got == 0) return error(StatusCode::kDataLoss, path + " became shorter");
    at += static_cast<size_t>(got);
  }
  return bytes;
}

StatusOr<std::string> move_aside(const std::string& path) {
  std::string aside;
  for (int n = 1; aside.empty() || ::access(aside.c_str(), F_OK) == 0; ++n) {
    aside = path + ".damaged." + std::to_string(n);
  }
  if (std::rename(path.c_str(), aside.c_str()) == 0) return aside;
  return errno_status(errno, "rename " + path + " to " + aside);
}
}  // namespace terrace
