#include "kernels/check/check.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace terrace::gpu_check {
namespace {

/// Ends the program: the machine did not give us what any machine gives.
void need(bool fine, const char* what) {
  if (fine) return;
  std::perror(what);
  std::exit(1);
}

double seconds_now() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}
}  // namespace

void Table::section(const std::string& title) {
  std::printf("\n%s\n", title.c_str());
}

void Table::check(const std::string& what, bool held, const std::string& detail) {
  failures_ += !held;
  std::printf("  %-58s %s%s%s\n", what.c_str(), held ? "ok" : "FAILED", detail.empty() ? "" : ": ",
              detail.c_str());
  std::fflush(stdout);
}

void Table::note(const std::string& what, const std::string& found) {
  std::printf("  %-58s %s\n", what.c_str(), found.c_str());
  std::fflush(stdout);
}

void Table::rate(const std::string& what, double gb_per_s, double ratio, double least) {
  std::printf("  %-58s %8.2f GB/s  %5.2f", what.c_str(), gb_per_s, ratio);
  if (least > 0) {
    failures_ += ratio < least;
    std::printf("  (at least %.2f: %s)", least, ratio < least ? "FAILED" : "ok");
  }
  std::printf("\n");
  std::fflush(stdout);
}

void must(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return;
  std::fprintf(stderr, "gpu_check: %s: %s: %s\n", what, cudaGetErrorName(code),
               cudaGetErrorString(code));
  std::exit(1);
}

void must(const DeviceResult& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "gpu_check: %s\n", status.message.c_str());
  std::exit(1);
}

double seconds_per_call(int rounds, int calls, cudaStream_t stream,
                        const std::function<void()>& work) {
  std::vector<double> seconds;
  for (int round = -1; round < rounds; ++round) {
    must(cudaStreamSynchronize(stream), "before timing");
    const double begin = seconds_now();
    for (int i = 0; i < calls; ++i) work();
    must(cudaStreamSynchronize(stream), "timed work");
    if (round >= 0) seconds.push_back((seconds_now() - begin) / calls);
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

void fill(std::span<std::byte> out, uint64_t seed) {
  uint64_t word = seed * 0x9E3779B97F4A7C15u + 1;
  for (size_t at = 0; at + sizeof(word) <= out.size(); at += sizeof(word)) {
    word ^= word << 13;
    word ^= word >> 7;
    word ^= word << 17;
    std::memcpy(out.data() + at, &word, sizeof(word));
  }
}

std::vector<std::byte> content(size_t bytes, uint64_t seed) {
  std::vector<std::byte> out(bytes);
  fill(out, seed);
  return out;
}

Owner::Owner(size_t bytes) {
  const int file = ::memfd_create("gpu-check", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  need(file >= 0 && ::ftruncate(file, static_cast<off_t>(bytes)) == 0, "memfd_create");
  need(::fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0, "F_ADD_SEALS");
  int ask[2], answer[2];
  need(::pipe2(ask, O_CLOEXEC) == 0 && ::pipe2(answer, O_CLOEXEC) == 0, "pipe");
  pid_ = ::fork();
  need(pid_ >= 0, "fork");
  if (pid_ == 0) {
    ask_ = ask[0];
    answer_ = answer[1];
    ::close(ask[1]);
    serve(file, bytes);
    std::_Exit(0);
  }
  ask_ = ask[1];
  answer_ = answer[0];
  ::close(ask[0]);
  ::close(answer[1]);
  // The same way a node lends it: a descriptor that cannot write.
  const std::string path = "/proc/self/fd/" + std::to_string(file);
  const int reader = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  need(reader >= 0, "open read-only");
  ::close(file);
  void* const memory = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, reader, 0);
  need(memory != MAP_FAILED, "mmap");
  ::close(reader);
  memory_ = {static_cast<const std::byte*>(memory), bytes};
}

Owner::~Owner() {
  end();
  ::munmap(const_cast<std::byte*>(memory_.data()), memory_.size());
}

void Owner::serve(int memory_file, size_t bytes) {
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory_file, 0);
  if (memory == MAP_FAILED) std::_Exit(1);
  struct {
    uint64_t what, seed;
  } order{};
  while (::read(ask_, &order, sizeof(order)) == sizeof(order)) {
    if (order.what == 'p') {
      (void)::fallocate(memory_file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                        static_cast<off_t>(bytes));
    } else {
      fill({static_cast<std::byte*>(memory), bytes}, order.seed);
    }
    const char done = 'd';
    if (::write(answer_, &done, 1) != 1) return;
  }
}

void Owner::ask(char what, uint64_t seed) {
  const struct { uint64_t what, seed; } order{static_cast<uint64_t>(what), seed};
  char done = 0;
  need(::write(ask_, &order, sizeof(order)) == sizeof(order) && ::read(answer_, &done, 1) == 1,
       "the other process");
}

void Owner::refill(uint64_t seed) {
  ask('f', seed);
}

void Owner::punch() {
  ask('p', 0);
}

void Owner::end() {
  if (pid_ < 0) return;
  ::close(ask_);
  ::close(answer_);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

DeviceBuffer::DeviceBuffer(size_t bytes) : size_(bytes) {
  void* data = nullptr;
  must(cudaMalloc(&data, bytes), "cudaMalloc");
  data_ = static_cast<std::byte*>(data);
}

DeviceBuffer::~DeviceBuffer() {
  (void)cudaFree(data_);
}

std::vector<std::byte> DeviceBuffer::bytes() const {
  std::vector<std::byte> out(size_);
  must(cudaMemcpy(out.data(), data_, size_, cudaMemcpyDeviceToHost), "copy back");
  return out;
}
}  // namespace terrace::gpu_check
