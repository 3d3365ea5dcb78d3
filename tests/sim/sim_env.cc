#include "tests/sim/sim_env.h"

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>
#include <rocksdb/system_clock.h>

#include <algorithm>
#include <cstdarg>
#include <cstring>
#include <utility>

namespace terrace::sim {
namespace {

using rocksdb::FileOptions;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

IOStatus to_io(const Status& status) {
  switch (status.code()) {
    case StatusCode::kOk:
      return IOStatus::OK();
    case StatusCode::kNotFound:
      return IOStatus::NotFound(status.message());
    case StatusCode::kResourceExhausted:
      return IOStatus::NoSpace(status.message());
    default:
      return IOStatus::IOError(status.message());
  }
}

IOStatus read_into(const SimFiles& files, const SimFiles::Open& open, uint64_t offset, size_t bytes,
                   Slice* result, char* scratch) {
  StatusOr<std::string> got = files.read(open, offset, bytes);
  if (!got.ok()) return to_io(got.status());
  std::memcpy(scratch, got->data(), got->size());
  *result = Slice(scratch, got->size());
  return IOStatus::OK();
}

class SequentialFile final : public rocksdb::FSSequentialFile {
 public:
  SequentialFile(std::shared_ptr<SimFiles> files, SimFiles::Open open)
      : files_(std::move(files)), open_(std::move(open)) {}
  IOStatus Read(size_t n, const IOOptions&, Slice* result, char* scratch,
                IODebugContext*) override {
    const IOStatus status = read_into(*files_, open_, at_, n, result, scratch);
    if (status.ok()) at_ += result->size();
    return status;
  }
  IOStatus Skip(uint64_t n) override {
    at_ += n;
    return IOStatus::OK();
  }

 private:
  const std::shared_ptr<SimFiles> files_;
  const SimFiles::Open open_;
  uint64_t at_ = 0;
};

class RandomAccessFile final : public rocksdb::FSRandomAccessFile {
 public:
  RandomAccessFile(std::shared_ptr<SimFiles> files, SimFiles::Open open)
      : files_(std::move(files)), open_(std::move(open)) {}
  IOStatus Read(uint64_t offset, size_t n, const IOOptions&, Slice* result, char* scratch,
                IODebugContext*) const override {
    return read_into(*files_, open_, offset, n, result, scratch);
  }

 private:
  const std::shared_ptr<SimFiles> files_;
  const SimFiles::Open open_;
};

class WritableFile final : public rocksdb::FSWritableFile {
 public:
  WritableFile(std::shared_ptr<SimFiles> files, SimFiles::Open open)
      : files_(std::move(files)), open_(std::move(open)) {}
  using rocksdb::FSWritableFile::Append;
  IOStatus Append(const Slice& data, const IOOptions&, IODebugContext*) override {
    return to_io(files_->append(open_, data.ToStringView()));
  }
  IOStatus Truncate(uint64_t size, const IOOptions&, IODebugContext*) override {
    return to_io(files_->truncate(open_, size));
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Flush(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Sync(const IOOptions&, IODebugContext*) override { return to_io(files_->sync(open_)); }
  bool IsSyncThreadSafe() const override { return true; }
  uint64_t GetFileSize(const IOOptions&, IODebugContext*) override { return files_->size(open_); }

 private:
  const std::shared_ptr<SimFiles> files_;
  const SimFiles::Open open_;
};

class Directory final : public rocksdb::FSDirectory {
 public:
  explicit Directory(std::shared_ptr<SimFiles> files) : files_(std::move(files)) {}
  IOStatus Fsync(const IOOptions&, IODebugContext*) override {
    return to_io(files_->sync_directories());
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }

 private:
  const std::shared_ptr<SimFiles> files_;
};

class Lock final : public rocksdb::FileLock {
 public:
  explicit Lock(std::string file) : name(std::move(file)) {}
  const std::string name;
};

/// A log would only add steps.
class NoLog final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
  size_t GetLogFileSize() const override { return 0; }
};

class SimFileSystem final : public rocksdb::FileSystem {
 public:
  explicit SimFileSystem(std::shared_ptr<SimFiles> files) : files_(std::move(files)) {}
  const char* Name() const override { return "SimFileSystem"; }

  IOStatus NewSequentialFile(const std::string& name, const FileOptions&,
                             std::unique_ptr<rocksdb::FSSequentialFile>* result,
                             IODebugContext*) override {
    return wrap<SequentialFile>(files_->open(name), result);
  }
  IOStatus NewRandomAccessFile(const std::string& name, const FileOptions&,
                               std::unique_ptr<rocksdb::FSRandomAccessFile>* result,
                               IODebugContext*) override {
    return wrap<RandomAccessFile>(files_->open(name), result);
  }
  IOStatus NewWritableFile(const std::string& name, const FileOptions&,
                           std::unique_ptr<rocksdb::FSWritableFile>* result,
                           IODebugContext*) override {
    return wrap<WritableFile>(files_->create(name, false), result);
  }
  IOStatus ReopenWritableFile(const std::string& name, const FileOptions&,
                              std::unique_ptr<rocksdb::FSWritableFile>* result,
                              IODebugContext*) override {
    return wrap<WritableFile>(files_->create(name, true), result);
  }
  IOStatus NewDirectory(const std::string&, const IOOptions&,
                        std::unique_ptr<rocksdb::FSDirectory>* result, IODebugContext*) override {
    *result = std::make_unique<Directory>(files_);
    return IOStatus::OK();
  }
  IOStatus FileExists(const std::string& name, const IOOptions&, IODebugContext*) override {
    return files_->exists(name) ? IOStatus::OK() : IOStatus::NotFound(name);
  }
  IOStatus GetChildren(const std::string& directory, const IOOptions&,
                       std::vector<std::string>* result, IODebugContext*) override {
    *result = files_->children(directory);
    if (result->empty() && !files_->exists(directory)) return IOStatus::NotFound(directory);
    return IOStatus::OK();
  }
  IOStatus DeleteFile(const std::string& name, const IOOptions&, IODebugContext*) override {
    return to_io(files_->remove(name));
  }
  IOStatus Truncate(const std::string& name, size_t size, const IOOptions&,
                    IODebugContext*) override {
    StatusOr<SimFiles::Open> open = files_->open(name);
    return to_io(open.ok() ? files_->truncate(*open, size) : open.status());
  }
  IOStatus CreateDir(const std::string& name, const IOOptions&, IODebugContext*) override {
    return to_io(files_->make_directory(name));
  }
  IOStatus CreateDirIfMissing(const std::string& name, const IOOptions&, IODebugContext*) override {
    return files_->is_directory(name) ? IOStatus::OK() : to_io(files_->make_directory(name));
  }
  IOStatus DeleteDir(const std::string&, const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }
  IOStatus GetFileSize(const std::string& name, const IOOptions&, uint64_t* size,
                       IODebugContext*) override {
    StatusOr<SimFiles::Open> open = files_->open(name);
    if (!open.ok()) return to_io(open.status());
    *size = files_->size(*open);
    return IOStatus::OK();
  }
  IOStatus GetFileModificationTime(const std::string&, const IOOptions&, uint64_t* time,
                                   IODebugContext*) override {
    *time = 0;
    return IOStatus::OK();
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions&,
                      IODebugContext*) override {
    return to_io(files_->rename(from, to));
  }
  IOStatus LinkFile(const std::string& from, const std::string& to, const IOOptions&,
                    IODebugContext*) override {
    return to_io(files_->link(from, to));
  }
  IOStatus LockFile(const std::string& name, const IOOptions&, rocksdb::FileLock** lock,
                    IODebugContext*) override {
    const Status locked = files_->lock(name);
    *lock = locked.ok() ? new Lock(name) : nullptr;
    return to_io(locked);
  }
  IOStatus UnlockFile(rocksdb::FileLock* lock, const IOOptions&, IODebugContext*) override {
    const std::unique_ptr<Lock> ours(static_cast<Lock*>(lock));
    files_->unlock(ours->name);
    return IOStatus::OK();
  }
  IOStatus GetTestDirectory(const IOOptions&, std::string* path, IODebugContext*) override {
    *path = "/test";
    return IOStatus::OK();
  }
  IOStatus NewLogger(const std::string&, const IOOptions&, std::shared_ptr<rocksdb::Logger>* result,
                     IODebugContext*) override {
    *result = std::make_shared<NoLog>();
    return IOStatus::OK();
  }
  IOStatus GetAbsolutePath(const std::string& name, const IOOptions&, std::string* path,
                           IODebugContext*) override {
    *path = name;
    return IOStatus::OK();
  }
  IOStatus IsDirectory(const std::string& name, const IOOptions&, bool* is,
                       IODebugContext*) override {
    *is = files_->is_directory(name);
    return IOStatus::OK();
  }

 private:
  template <class Ours, class Result>
  IOStatus wrap(StatusOr<SimFiles::Open> open, std::unique_ptr<Result>* result) {
    if (!open.ok()) return to_io(open.status());
    *result = std::make_unique<Ours>(files_, std::move(*open));
    return IOStatus::OK();
  }
  const std::shared_ptr<SimFiles> files_;
};
/// RocksDB waits a second after a background error; a test does not.
class QuickClock final : public rocksdb::SystemClockWrapper {
 public:
  using rocksdb::SystemClockWrapper::SystemClockWrapper;
  const char* Name() const override { return "QuickClock"; }
  void SleepForMicroseconds(int micros) override {
    rocksdb::SystemClockWrapper::SleepForMicroseconds(std::min(micros, 100));
  }
};

class QuickEnv final : public rocksdb::EnvWrapper {
 public:
  explicit QuickEnv(std::unique_ptr<rocksdb::Env> env)
      : rocksdb::EnvWrapper(env.get()), env_(std::move(env)) {
    system_clock_ = std::make_shared<QuickClock>(env_->GetSystemClock());
    file_system_ = env_->GetFileSystem();
  }

 private:
  const std::unique_ptr<rocksdb::Env> env_;
};
}  // namespace

SimEnv::SimEnv(SimDisk* disk)
    : files_(std::make_shared<SimFiles>(disk)),
      env_(std::make_unique<QuickEnv>(
          rocksdb::NewCompositeEnv(std::make_shared<SimFileSystem>(files_)))) {}
SimEnv::~SimEnv() = default;
}  // namespace terrace::sim
