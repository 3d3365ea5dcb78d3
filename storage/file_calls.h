// storage/file_calls.h - the calls that the shared directory makes of a file system, as a seam: a
// test puts one in between that fails, tears, hangs or dies. Blocking; any thread.
#pragma once
#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace terrace {

/// As the system calls of these names, but that an error is returned as -errno.
class FileCalls {
 public:
  struct Facts {
    uint64_t bytes = 0;
    int64_t modified_ns = 0;  // by the file system's clock, not this machine's
    bool regular = false;     // a file: no directory, pipe, device
  };
  virtual ~FileCalls() = default;
  virtual int open(const std::string& path, int flags, mode_t mode);
  /// May be short, as the kernel's.
  virtual ssize_t write(int fd, std::span<const iovec> pieces);
  virtual ssize_t read(int fd, std::span<std::byte> into, uint64_t offset);
  /// The pages that the kernel remembers of the file, as far as they are not dirty or in use.
  virtual void forget(int fd);
  virtual int sync(int fd);
  virtual void close(int fd);
  virtual int rename(const std::string& from, const std::string& to);
  virtual int unlink(const std::string& path);
  virtual int make_directory(const std::string& path);
  virtual int facts(int fd, Facts* out);
  /// Sets the time of the last change to now, by the file system's clock.
  virtual int touch(int fd);
  /// Names in a directory, . and .. left out; at most `max`, which ones is open.
  virtual int list(const std::string& path, size_t max, std::vector<std::string>* out);
};
}  // namespace terrace
