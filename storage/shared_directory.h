// storage/shared_directory.h - the shared tier's medium on a directory of any POSIX file system,
// used by any number of nodes at once. Layout: docs/formats.md.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>

#include "storage/file_calls.h"
#include "storage/shared_medium.h"

namespace terrace {

class SharedDirectory final : public SharedMedium {
 public:
  /// Touches nothing yet. `clock` is thread-safe and outlives this.
  static std::unique_ptr<SharedDirectory> make(const std::string& root,
                                               std::unique_ptr<FileCalls> files,
                                               const Clock* clock);
  /// The directory must exist: a file system that is not mounted must not be mistaken for an empty
  /// one. kNotFound, kInvalidArgument (not a directory).
  Status check() override;
  Status probe() override;
  Status publish(const std::string& name, std::span<const iovec> pieces) override;
  Status create(const std::string& name, std::string_view bytes) override;
  StatusOr<std::unique_ptr<SharedBytes>> open(const std::string& name) override;
  StatusOr<Facts> facts(const std::string& name) override;
  Status touch(const std::string& name) override;
  Status move(const std::string& from, const std::string& to) override;
  Status settle(const std::string& folder) override;
  Status remove(const std::string& name) override;
  StatusOr<std::vector<std::string>> list(const std::string& folder, size_t max) override;

 private:
  static constexpr size_t kFoldersMax = 65536;
  static constexpr Nanos kClockGoodFor = seconds(1);
  SharedDirectory(std::string root, std::shared_ptr<FileCalls> files, const Clock* clock);
  std::string path_of(const std::string& name) const { return root_ + "/" + name; }
  /// The folders above `name` are there and survive a power cut. Looked after once each, unless
  /// `again`: also one that another node made, because that may have died before it synced it.
  Status make_folders(const std::string& name, bool again);
  Status sync_folder(const std::string& path);
  Status write_all(int fd, std::span<const iovec> pieces, const std::string& path);
  /// A new file, open for writing.
  StatusOr<int> create_file(const std::string& name);
  Status write_temporary(const std::string& name, std::span<const iovec> pieces);
  /// A name that nobody else has, in tmp/.
  std::string temporary();
  /// The file system's time now.
  StatusOr<int64_t> now_ns();

  const std::string root_;
  const std::shared_ptr<FileCalls> files_;  // with objects that are open
  const Clock* const clock_;
  std::string self_;  // random, of this instance
  std::atomic<uint64_t> next_{0};
  std::mutex mutex_;
  std::unordered_set<std::string> folders_;  // guarded by mutex_, as what follows
  int64_t sampled_ns_ = 0;                   // the file system's clock
  Nanos sampled_at_{0};                      // when; 0: never
};
}  // namespace terrace
