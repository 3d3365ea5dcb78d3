// tests/sim/faulty_files.h - a file system that fails on request: the n-th call with an errno, all
// calls after a death, short writes, calls that hang until the test lets them go. Thread-safe.
#pragma once
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

#include "storage/file_calls.h"

namespace terrace::testing {

/// What a test asks of the files; it may outlive them, as threads that hang may.
struct FileFaults {
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t calls = 0;        // that change or read something, since the last reset
  uint64_t fail_at = ~0ull;  // this call and, when `for_ever`, those behind it
  bool for_ever = false;     // a process that died: nothing it would do afterwards happens
  int error = EIO;
  size_t write_max = ~size_t{0};  // bytes of one write
  bool hang = false;
  int hanging = 0;

  void reset() {
    const std::lock_guard lock(mutex);
    calls = 0;
    fail_at = ~0ull;
    for_ever = false;
    write_max = ~size_t{0};
  }
  /// The n-th call from now on.
  void fail(uint64_t n, int with, bool also_later) {
    const std::lock_guard lock(mutex);
    calls = 0;
    fail_at = n;
    error = with;
    for_ever = also_later;
  }
  void set_hang(bool on) {
    const std::lock_guard lock(mutex);
    hang = on;
    changed.notify_all();
  }
  int now_hanging() {
    const std::lock_guard lock(mutex);
    return hanging;
  }
};

class FaultyFiles final : public FileCalls {
 public:
  explicit FaultyFiles(std::shared_ptr<FileFaults> faults) : faults_(std::move(faults)) {}
  int open(const std::string& path, int flags, mode_t mode) override {
    const int failed = enter();
    return failed != 0 ? failed : FileCalls::open(path, flags, mode);
  }
  ssize_t write(int fd, std::span<const iovec> pieces) override {
    size_t max = 0;
    if (const int failed = enter(&max); failed != 0) return failed;
    iovec first = pieces[0];
    if (first.iov_len <= max) return FileCalls::write(fd, pieces);
    first.iov_len = max;
    return FileCalls::write(fd, {&first, 1});
  }
  ssize_t read(int fd, std::span<std::byte> into, uint64_t offset) override {
    const int failed = enter();
    return failed != 0 ? failed : FileCalls::read(fd, into, offset);
  }
  int sync(int fd) override {
    const int failed = enter();
    return failed != 0 ? failed : FileCalls::sync(fd);
  }
  int rename(const std::string& from, const std::string& to) override {
    const int failed = enter();
    return failed != 0 ? failed : FileCalls::rename(from, to);
  }
  int unlink(const std::string& path) override {
    const int failed = enter();
    return failed != 0 ? failed : FileCalls::unlink(path);
  }
  int make_directory(const std::string& path) override {
    const int failed = enter();
    return failed != 0 ? failed : FileCalls::make_directory(path);
  }
  int touch(int fd) override {
    const int failed = enter();
    return failed != 0 ? failed : FileCalls::touch(fd);
  }
  int list(const std::string& path, size_t max, std::vector<std::string>* out) override {
    const int failed = enter();
    return failed != 0 ? failed : FileCalls::list(path, max, out);
  }

 private:
  int enter(size_t* write_max = nullptr) {
    std::unique_lock lock(faults_->mutex);
    if (write_max != nullptr) *write_max = faults_->write_max;
    if (faults_->hang) {
      ++faults_->hanging;
      faults_->changed.wait(lock, [this] { return !faults_->hang; });
      --faults_->hanging;
    }
    const uint64_t call = faults_->calls++;
    const bool fails = call == faults_->fail_at || (faults_->for_ever && call > faults_->fail_at);
    return fails ? -faults_->error : 0;
  }
  const std::shared_ptr<FileFaults> faults_;
};
}  // namespace terrace::testing
