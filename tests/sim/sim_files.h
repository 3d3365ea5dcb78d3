// tests/sim/sim_files.h - a file system in memory that forgets what was not synced. Knows no
// RocksDB; sim_env.h puts it under one. Thread-safe.
//
// A power cut keeps of every file what was synced, and of the rest a beginning that the seed picks,
// torn at any byte. The end of a write-ahead log (*.log) may also be garbage; that of another file
// not, because RocksDB refuses to open a MANIFEST that ends in garbage: it relies, and so do we, on
// a file system that never extends a file over blocks it has not written (ext4 in ordered mode,
// XFS). Creations, renames and deletions become durable with the next sync of a directory, in
// order; a cut keeps a beginning of those that were not.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tests/sim/sim_disk.h"

namespace terrace::sim {

class SimFiles {
 public:
  struct File {  // contents, whatever its name; guarded by the file system
    std::string data;
    size_t synced = 0;
  };
  /// An open file of one life of the machine: useless after restart().
  struct Open {
    std::shared_ptr<File> file;
    uint64_t life = 0;
  };

  explicit SimFiles(SimDisk* disk) : disk_(disk) {}

  /// Created when missing, else emptied unless `keep`.
  StatusOr<Open> create(const std::string& name, bool keep);
  StatusOr<Open> open(const std::string& name) const;
  Status append(const Open& open, std::string_view bytes);
  Status truncate(const Open& open, uint64_t bytes);
  Status sync(const Open& open);
  /// At most `bytes`, less at the end.
  StatusOr<std::string> read(const Open& open, uint64_t offset, size_t bytes) const;
  uint64_t size(const Open& open) const;

  Status remove(const std::string& name);
  Status rename(const std::string& from, const std::string& to);
  Status link(const std::string& from, const std::string& to);
  Status make_directory(const std::string& name);
  Status sync_directories();
  bool exists(const std::string& name) const;
  bool is_directory(const std::string& name) const;
  std::vector<std::string> children(const std::string& directory) const;
  Status lock(const std::string& name);
  void unlock(const std::string& name);

  /// After a power cut: what survived is what is there, and nobody holds a lock.
  void restart();
  /// The change after `skip` more fails with `error`, and when `persistent` all after it.
  void fail(uint64_t skip, Status error, bool persistent = false);
  void heal();
  /// False only in a canary test: syncs then end OK and keep nothing.
  void keep_promises(bool keep);
  uint64_t syncs() const;
  uint64_t bytes_stored() const;

 private:
  struct NameChange {  // `file` null: the name goes
    std::string name;
    std::shared_ptr<File> file;
    bool with_next = false;  // a rename is one step: both of its changes or none
  };
  using Names = std::map<std::string, std::shared_ptr<File>>;
  static std::string clean(const std::string& name);
  static void apply(Names* names, const NameChange& change);
  Status step();
  Status usable(const Open& open) const;
  void note(NameChange change);
  void survive(File* file, bool garbage);

  SimDisk* const disk_;
  mutable std::mutex mutex_;
  Names names_;
  Names durable_names_;
  std::vector<NameChange> unsynced_names_;
  std::set<std::string> directories_;
  std::set<std::string> locks_;
  uint64_t life_ = 0;
  uint64_t changes_ = 0;
  uint64_t syncs_ = 0;
  bool honest_ = true;
  struct Failure {
    uint64_t at = 0;
    Status error;
    bool persistent = false;
  };
  std::optional<Failure> failure_;
};
}  // namespace terrace::sim
