// kernels/check/check.h - what the parts of gpu_check share: the table of results, timing, and a
// second process that owns the memory which this one maps read-only. One thread.
#pragma once
#include <cuda_runtime_api.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/device_memory.h"

namespace terrace::gpu_check {

/// Prints rows as they come and remembers which did not hold.
class Table {
 public:
  void section(const std::string& title);
  /// A check that holds or does not.
  void check(const std::string& what, bool held, const std::string& detail = {});
  /// What was found, whatever it is.
  void note(const std::string& what, const std::string& found);
  /// GB/s and a ratio to a ceiling; `least` 0: no bar.
  void rate(const std::string& what, double gb_per_s, double ratio, double least);
  int failures() const { return failures_; }

 private:
  int failures_ = 0;
};

/// Ends the program with a message: for calls that have no reason to fail.
void must(cudaError_t code, const char* what);
void must(const DeviceResult& status);

/// The median of `rounds` of seconds per call of `work`, `calls` of them and a wait for `stream`
/// in each round, after one round that does not count.
double seconds_per_call(int rounds, int calls, cudaStream_t stream,
                        const std::function<void()>& work);

/// Bytes that two processes can make from a seed.
void fill(std::span<std::byte> out, uint64_t seed);
std::vector<std::byte> content(size_t bytes, uint64_t seed);

/// Another process with a sealed memory file, mapped here read-only, as a node's slab is. Make it
/// before the first call into CUDA: a process that uses CUDA cannot fork.
class Owner {
 public:
  explicit Owner(size_t bytes);
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;
  ~Owner();
  std::span<const std::byte> memory() const { return memory_; }
  /// The other process writes content(seed) over all of it.
  void refill(uint64_t seed);
  /// It gives the memory back to the machine, as a node whose slab goes to another tenant.
  void punch();
  /// It ends.
  void end();

 private:
  void serve(int memory_file, size_t bytes);
  void ask(char what, uint64_t seed);

  pid_t pid_ = -1;
  int ask_ = -1, answer_ = -1;
  std::span<const std::byte> memory_;
};

/// Device memory of one size.
class DeviceBuffer {
 public:
  explicit DeviceBuffer(size_t bytes);
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  ~DeviceBuffer();
  std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  /// Copied back; waits.
  std::vector<std::byte> bytes() const;

 private:
  std::byte* data_ = nullptr;
  size_t size_;
};

// Each prints its rows. `owner` holds kSharedBytes.
inline constexpr size_t kSharedBytes = size_t{256} << 20;
void check_registration(Owner* owner, Table* table);
void measure_copies(const Owner& owner, Table* table);
void check_paged_copy(Table* table);
void check_accelerator(Table* table);
void measure_accelerator(Table* table);
void measure_paged_copy(const Owner& owner, Table* table);
/// This program as another process: `--opened HANDLE BYTES SEED`. 0: the slab holds those bytes.
int opened_elsewhere(const std::vector<std::string>& words);
}  // namespace terrace::gpu_check
