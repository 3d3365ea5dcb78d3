#include "base/memory_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace terrace {

StatusOr<Fd> make_memory_file(const char* name, uint64_t bytes, bool huge_pages) {
  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge_pages ? MFD_HUGETLB : 0u);
  Fd file(::memfd_create(name, flags));
  // The mode: whoever gets a read-only descriptor could reopen it for writing where it allows.
  if (!file || ::fchmod(file.get(), S_IRUSR | S_IWUSR) != 0 ||
      ::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0 ||
      ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return errno_status(errno, std::string(name) + " of " + std::to_string(bytes) + " bytes");
  }
  return file;
}

StatusOr<Fd> reopen_read_only(const Fd& file) {
  const std::string path = "/proc/self/fd/" + std::to_string(file.get());
  Fd read_only(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (read_only) return read_only;
  const int why = errno;
  if (why == ENOENT) {
    return error(StatusCode::kUnavailable, "opening memory to read: " + path + " is not there");
  }
  return errno_status(why, "opening " + path + " to read");
}
}  // namespace terrace
