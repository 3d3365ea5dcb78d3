#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/prng.h"
#include "storage/data_file.h"
#include "storage/durable_file.h"

namespace terrace {
namespace {

constexpr std::string_view kTag = "terrace data directory 1\n";
constexpr const char* kIdentity = "IDENTITY";
constexpr size_t kFileBytes = kTag.size() + sizeof(Uuid) + 4;
constexpr mode_t kDirectoryMode = 0750;
constexpr mode_t kFileMode = 0640;

std::string encode_directory(const Uuid& uuid) {
  ByteWriter out;
  out.raw(kTag);
  out.raw(uuid.data(), uuid.size());
  out.u32(crc32c(uuid));
  return out.take();
}

StatusOr<Uuid> read_uuid(int fd, const std::string& path) {
  std::string bytes(kFileBytes + 1, '\0');
  const ssize_t got = ::pread(fd, bytes.data(), bytes.size(), 0);
  if (got < 0) return errno_status(errno, "read " + path);
  ByteReader in(std::string_view(bytes).substr(0, static_cast<size_t>(got)));
  const bool tagged = in.raw(kTag.size()) == kTag;
  Uuid uuid{};
  in.raw(uuid.data(), uuid.size());
  if (!tagged || in.u32() != crc32c(uuid) || !in.ok() || in.left() != 0) {
    return error(StatusCode::kDataLoss, path + ": not the identity of a data directory");
  }
  return uuid;
}

StatusOr<Uuid> create_uuid(const std::string& directory, const std::string& name) {
  Uuid uuid{};
  secure_random(uuid);
  TERRACE_RETURN_IF_ERROR(write_durably(directory, name, encode_directory(uuid)));
  return uuid;
}
}  // namespace

StatusOr<DirectoryLock> DirectoryLock::acquire(const std::string& directory) {
  if (::mkdir(directory.c_str(), kDirectoryMode) != 0 && errno != EEXIST) {
    return errno_status(errno, "mkdir " + directory);
  }
  const std::string lock_path = directory + "/LOCK";
  Fd lock(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kFileMode));
  if (!lock) return errno_status(errno, "open " + lock_path);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return errno_status(errno, "flock " + lock_path);
    return error(StatusCode::kUnavailable, "another process uses " + directory);
  }
  DirectoryLock out(directory, std::move(lock));
  const std::string path = directory + "/" + kIdentity;
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd && errno != ENOENT) return errno_status(errno, "open " + path);
  TERRACE_ASSIGN_OR_RETURN(out.uuid_,
                           fd ? read_uuid(fd.get(), path) : create_uuid(directory, kIdentity));
  return out;
}
}  // namespace terrace
