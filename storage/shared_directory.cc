#include "storage/shared_directory.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/chunk_key.h"
#include "base/prng.h"

namespace terrace {
namespace {

// Whatever lies under a name: no link is followed, and nobody waits for a pipe's other end.
constexpr int kLookFlags = O_RDONLY | O_NONBLOCK | O_NOFOLLOW;
constexpr mode_t kFileMode = 0660;
constexpr const char* kTemporaries = "tmp";

/// What the caller should do next: everything that may pass is kUnavailable.
Status failed(int negative, const std::string& what) {
  const int number = -negative;
  Status status = errno_status(number, what);
  switch (status.code()) {
    case StatusCode::kNotFound:
    case StatusCode::kResourceExhausted:
    case StatusCode::kPermissionDenied:
      return status;
    default:
      if (number == EEXIST) return error(StatusCode::kAlreadyExists, what + ": exists");
      return error(StatusCode::kUnavailable, status.message());
  }
}

/// An open file of the seam's.
class File {
 public:
  File(std::shared_ptr<FileCalls> files, int fd) : files_(std::move(files)), fd_(fd) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd_ >= 0) files_->close(fd_);
  }
  int fd() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  const std::shared_ptr<FileCalls> files_;
  const int fd_;
};

class OpenFile final : public SharedBytes {
 public:
  OpenFile(std::shared_ptr<FileCalls> files, int fd, uint64_t bytes, std::string path)
      : files_(files), file_(std::move(files), fd), bytes_(bytes), path_(std::move(path)) {}
  void set_age(Nanos age) { age_ = age; }
  uint64_t size() const override { return bytes_; }
  std::optional<Nanos> age() const override { return age_; }
  Status read(uint64_t offset, std::span<std::byte> into) override {
    while (!into.empty()) {
      const ssize_t got = files_->read(file_.fd(), into, offset);
      if (got == -EINTR) continue;
      if (got < 0) return failed(static_cast<int>(got), "read " + path_);
      if (got == 0) {
        return error(StatusCode::kOutOfRange, path_ + " ends at " + std::to_string(offset));
      }
      into = into.subspan(static_cast<size_t>(got));
      offset += static_cast<uint64_t>(got);
    }
    return ok_status();
  }
  void forget() override { files_->forget(file_.fd()); }

 private:
  const std::shared_ptr<FileCalls> files_;
  const File file_;
  const uint64_t bytes_;
  const std::string path_;
  std::optional<Nanos> age_;
};
}  // namespace

SharedDirectory::SharedDirectory(std::string root, std::shared_ptr<FileCalls> files,
                                 const Clock* clock)
    : root_(std::move(root)), files_(std::move(files)), clock_(clock) {
  std::array<std::byte, 32> random{};
  secure_random(random);
  self_ = ChunkKey{random}.hex().substr(0, 16);
}

std::unique_ptr<SharedDirectory> SharedDirectory::make(const std::string& root,
                                                       std::unique_ptr<FileCalls> files,
                                                       const Clock* clock) {
  return std::unique_ptr<SharedDirectory>(new SharedDirectory(root, std::move(files), clock));
}

Status SharedDirectory::check() {
  const File directory(files_, files_->open(root_, O_RDONLY | O_DIRECTORY, 0));
  if (directory) return ok_status();
  if (directory.fd() == -ENOTDIR) {
    return error(StatusCode::kInvalidArgument, "shared_directory " + root_ + ": not a directory");
  }
  return failed(directory.fd(), "shared_directory " + root_);
}

std::string SharedDirectory::temporary() {
  return std::string(kTemporaries) + "/" + self_ + "." + std::to_string(next_.fetch_add(1));
}

Status SharedDirectory::sync_folder(const std::string& path) {
  const File folder(files_, files_->open(path, O_RDONLY | O_DIRECTORY, 0));
  if (!folder) return failed(folder.fd(), "open " + path);
  const int synced = files_->sync(folder.fd());
  // Some file systems have nothing to sync in a directory, and say so.
  if (synced < 0 && synced != -EINVAL) return failed(synced, "fsync " + path);
  return ok_status();
}

Status SharedDirectory::make_folders(const std::string& name, bool again) {
  std::string above = root_;
  for (size_t slash = name.find('/'); slash != std::string::npos;
       slash = name.find('/', slash + 1)) {
    const std::string folder = path_of(name.substr(0, slash));
    bool known = false;
    {
      const std::lock_guard lock(mutex_);
      known = folders_.contains(folder);
    }
    if (!known || again) {
      const int made = files_->make_directory(folder);
      if (made < 0 && made != -EEXIST) return failed(made, "mkdir " + folder);
      TERRACE_RETURN_IF_ERROR(sync_folder(above));
      const std::lock_guard lock(mutex_);
      if (folders_.size() >= kFoldersMax) folders_.clear();
      folders_.insert(folder);
    }
    above = folder;
  }
  return ok_status();
}

Status SharedDirectory::write_all(int fd, std::span<const iovec> pieces, const std::string& path) {
  std::vector<iovec> left(pieces.begin(), pieces.end());
  for (size_t first = 0; first < left.size();) {
    if (left[first].iov_len == 0) {
      ++first;
      continue;
    }
    const ssize_t put = files_->write(fd, std::span(left).subspan(first));
    if (put == -EINTR) continue;
    if (put < 0) return failed(static_cast<int>(put), "write " + path);
    if (put == 0) return failed(-ENOSPC, "write " + path);
    for (auto done = static_cast<size_t>(put); done > 0;) {
      iovec& piece = left[first];
      if (done < piece.iov_len) {
        piece = {static_cast<std::byte*>(piece.iov_base) + done, piece.iov_len - done};
        break;
      }
      done -= piece.iov_len;
      ++first;
    }
  }
  return ok_status();
}

StatusOr<int> SharedDirectory::create_file(const std::string& name) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL;
  TERRACE_RETURN_IF_ERROR(make_folders(name, false));
  int fd = files_->open(path_of(name), kFlags, kFileMode);
  if (fd == -ENOENT) {  // somebody removed its folder
    TERRACE_RETURN_IF_ERROR(make_folders(name, true));
    fd = files_->open(path_of(name), kFlags, kFileMode);
  }
  if (fd < 0) return failed(fd, "create " + path_of(name));
  return fd;
}

Status SharedDirectory::write_temporary(const std::string& name, std::span<const iovec> pieces) {
  TERRACE_ASSIGN_OR_RETURN(const int fd, create_file(name));
  const File file(files_, fd);
  TERRACE_RETURN_IF_ERROR(write_all(fd, pieces, path_of(name)));
  const int synced = files_->sync(fd);
  return synced < 0 ? failed(synced, "fsync " + path_of(name)) : ok_status();
}

Status SharedDirectory::publish(const std::string& name, std::span<const iovec> pieces) {
  const std::string beside = temporary();
  Status done = write_temporary(beside, pieces);
  if (done.ok()) done = make_folders(name, false);
  if (done.ok()) done = move(beside, name);
  if (!done.ok()) {
    (void)files_->unlink(path_of(beside));  // else the sweeper does
    return done;
  }
  const std::string path = path_of(name);
  return sync_folder(path.substr(0, path.rfind('/')));
}

Status SharedDirectory::create(const std::string& name, std::string_view bytes) {
  TERRACE_ASSIGN_OR_RETURN(const int fd, create_file(name));
  const File file(files_, fd);
  std::string copy(bytes);
  const iovec piece{copy.data(), copy.size()};
  return write_all(fd, {&piece, 1}, path_of(name));
}

StatusOr<std::unique_ptr<SharedBytes>> SharedDirectory::open(const std::string& name) {
  const std::string path = path_of(name);
  const int fd = files_->open(path, kLookFlags, 0);
  if (fd < 0) return failed(fd, "open " + path);
  FileCalls::Facts found;
  const int looked = files_->facts(fd, &found);
  auto file = std::make_unique<OpenFile>(files_, fd, found.bytes, path);
  if (looked < 0) return failed(looked, "stat " + path);
  if (!found.regular) return error(StatusCode::kDataLoss, path + " is no file");
  if (const auto now = now_ns(); now.ok()) {
    file->set_age(Nanos(std::max<int64_t>(0, *now - found.modified_ns)));
  }
  return StatusOr<std::unique_ptr<SharedBytes>>(std::move(file));
}

StatusOr<int64_t> SharedDirectory::now_ns() {
  {
    const std::lock_guard lock(mutex_);
    const Nanos since = clock_->now() - sampled_at_;
    if (sampled_at_ != Nanos(0) && since < kClockGoodFor) return sampled_ns_ + since.count();
  }
  const std::string name = std::string(kTemporaries) + "/clock." + self_;
  TERRACE_RETURN_IF_ERROR(make_folders(name, false));
  const std::string path = path_of(name);
  const File file(files_, files_->open(path, O_WRONLY | O_CREAT, kFileMode));
  if (!file) return failed(file.fd(), "open " + path);
  FileCalls::Facts found;
  if (const int touched = files_->touch(file.fd()); touched < 0) {
    return failed(touched, "touch " + path);
  }
  if (const int looked = files_->facts(file.fd(), &found); looked < 0) {
    return failed(looked, "stat " + path);
  }
  const std::lock_guard lock(mutex_);
  sampled_ns_ = found.modified_ns;
  sampled_at_ = clock_->now();
  return sampled_ns_;
}

StatusOr<SharedMedium::Facts> SharedDirectory::facts(const std::string& name) {
  // Opened, because a network file system may answer a stat from what it remembers.
  const std::string path = path_of(name);
  const File file(files_, files_->open(path, kLookFlags, 0));
  if (!file) return failed(file.fd(), "open " + path);
  FileCalls::Facts found;
  if (const int looked = files_->facts(file.fd(), &found); looked < 0) {
    return failed(looked, "stat " + path);
  }
  TERRACE_ASSIGN_OR_RETURN(const int64_t now, now_ns());
  return Facts{found.bytes, Nanos(std::max<int64_t>(0, now - found.modified_ns))};
}

Status SharedDirectory::touch(const std::string& name) {
  const std::string path = path_of(name);
  const File file(files_, files_->open(path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW, 0));
  if (!file) return failed(file.fd(), "open " + path);
  if (const int touched = files_->touch(file.fd()); touched < 0) {
    return failed(touched, "touch " + path);
  }
  return ok_status();
}

Status SharedDirectory::move(const std::string& from, const std::string& to) {
  int moved = files_->rename(path_of(from), path_of(to));
  if (moved == -ENOENT) {
    TERRACE_RETURN_IF_ERROR(make_folders(to, true));
    moved = files_->rename(path_of(from), path_of(to));
  }
  return moved < 0 ? failed(moved, "rename " + path_of(from)) : ok_status();
}

Status SharedDirectory::settle(const std::string& folder) {
  return sync_folder(path_of(folder));
}

Status SharedDirectory::remove(const std::string& name) {
  const int gone = files_->unlink(path_of(name));
  return gone < 0 ? failed(gone, "unlink " + path_of(name)) : ok_status();
}

StatusOr<std::vector<std::string>> SharedDirectory::list(const std::string& folder, size_t max) {
  std::vector<std::string> names;
  const int listed = files_->list(path_of(folder), max, &names);
  if (listed == -ENOENT) {  // empty, or all of it is away: an unmounted file system
    const File root(files_, files_->open(root_, O_RDONLY | O_DIRECTORY, 0));
    if (!root) return error(StatusCode::kUnavailable, root_ + " is not there");
    return names;
  }
  if (listed < 0) return failed(listed, "list " + path_of(folder));
  return names;
}

Status SharedDirectory::probe() {
  const std::string name = temporary();
  std::byte content{'p'};
  const iovec piece{&content, 1};
  TERRACE_RETURN_IF_ERROR(publish(name, {&piece, 1}));
  std::byte back{};
  {
    TERRACE_ASSIGN_OR_RETURN(const std::unique_ptr<SharedBytes> file, open(name));
    TERRACE_RETURN_IF_ERROR(file->read(0, {&back, 1}));
  }
  TERRACE_RETURN_IF_ERROR(remove(name));
  return back == content ? ok_status()
                         : error(StatusCode::kUnavailable, root_ + " gives back other bytes");
}
}  // namespace terrace
