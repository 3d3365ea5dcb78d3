#include "storage/file_calls.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace terrace {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr mode_t kDirectoryMode = 0770;

int result_of(int returned) {
  return returned < 0 ? -errno : returned;
}
}  // namespace

int FileCalls::open(const std::string& path, int flags, mode_t mode) {
  return result_of(::open(path.c_str(), flags | O_CLOEXEC, mode));
}

ssize_t FileCalls::write(int fd, std::span<const iovec> pieces) {
  const auto count = static_cast<int>(std::min<size_t>(pieces.size(), IOV_MAX));
  const ssize_t put = ::writev(fd, pieces.data(), count);
  return put < 0 ? -errno : put;
}

ssize_t FileCalls::read(int fd, std::span<std::byte> into, uint64_t offset) {
  const ssize_t got = ::pread(fd, into.data(), into.size(), static_cast<off_t>(offset));
  return got < 0 ? -errno : got;
}

void FileCalls::forget(int fd) {
  (void)::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

int FileCalls::sync(int fd) {
  return result_of(::fsync(fd));
}

void FileCalls::close(int fd) {
  ::close(fd);
}

int FileCalls::rename(const std::string& from, const std::string& to) {
  return result_of(::rename(from.c_str(), to.c_str()));
}

int FileCalls::unlink(const std::string& path) {
  return result_of(::unlink(path.c_str()));
}

int FileCalls::make_directory(const std::string& path) {
  return result_of(::mkdir(path.c_str(), kDirectoryMode));
}

int FileCalls::facts(int fd, Facts* out) {
  struct stat found {};
  if (::fstat(fd, &found) != 0) return -errno;
  out->bytes = static_cast<uint64_t>(found.st_size);
  out->modified_ns = found.st_mtim.tv_sec * kNsPerSecond + found.st_mtim.tv_nsec;
  out->regular = S_ISREG(found.st_mode);
  return 0;
}

int FileCalls::touch(int fd) {
  return result_of(::futimens(fd, nullptr));
}

int FileCalls::list(const std::string& path, size_t max, std::vector<std::string>* out) {
  DIR* const directory = ::opendir(path.c_str());
  if (directory == nullptr) return -errno;
  errno = 0;
  for (const dirent* each = nullptr;
       out->size() < max && (each = ::readdir(directory)) != nullptr;) {
    if (std::strcmp(each->d_name, ".") != 0 && std::strcmp(each->d_name, "..") != 0) {
      out->emplace_back(each->d_name);
    }
    errno = 0;
  }
  const int failed = errno;
  ::closedir(directory);
  return -failed;
}
}  // namespace terrace
