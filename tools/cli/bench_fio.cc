#include "tools/cli/bench_fio.h"

#include <unistd.h>

#include <filesystem>
#include <vector>

#include "tools/cli/bench_process.h"

namespace terrace {
namespace {
constexpr milliseconds kPrepareTimeout{300'000};

/// The job that all runs share; --thread keeps the CPU time in one process.
std::vector<std::string> job_on(const std::string& path, uint64_t bytes) {
  return {"fio",
          "--name=terrace",
          "--filename=" + path,
          "--bs=1m",
          "--size=" + std::to_string(bytes),
          "--iodepth=8",
          "--ioengine=io_uring",
          "--direct=1",
          "--thread",
          "--output-format=json",
          "--eta=never"};
}

/// Adds how long and what (`direction`: "read" or "write", with "rand" in front when random), runs.
StatusOr<Figure> timed(std::vector<std::string> job, Nanos duration, const std::string& direction) {
  const auto run_ms = std::chrono::duration_cast<milliseconds>(duration);
  for (const std::string& more :
       {std::string("--time_based=1"), "--runtime=" + std::to_string(run_ms.count()) + "ms",
        "--rw=" + direction}) {
    job.push_back(more);
  }
  TERRACE_ASSIGN_OR_RETURN(const std::string report,
                           run_program(std::move(job), run_ms + milliseconds(60'000)));
  return parse_fio(report, direction.starts_with("rand") ? direction.substr(4) : direction);
}
}  // namespace

StatusOr<FioFile> FioFile::create(const std::string& directory, uint64_t bytes, Content content) {
  FioFile file(directory + "/fio.dat");
  file.bytes_ = bytes;
  std::vector<std::string> job = job_on(file.path_, bytes);
  for (const char* more : {"--rw=write", "--end_fsync=1"}) job.push_back(more);
  if (content == Content::zeroes) job.push_back("--zero_buffers=1");
  TERRACE_RETURN_IF_ERROR(run_program(std::move(job), kPrepareTimeout).status());
  return file;
}

FioFile::~FioFile() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

StatusOr<Figure> FioFile::read_for(Nanos duration) {
  std::vector<std::string> job = job_on(path_, bytes_);
  for (const char* more : {"--fixedbufs=1", "--registerfiles=1"}) job.push_back(more);
  return timed(std::move(job), duration, "read");
}

StatusOr<Figure> FioFile::write_for(Nanos duration) {
  std::vector<std::string> job = job_on(path_, bytes_);
  job.push_back("--overwrite=1");
  // fio 3.33 repeats a sync until its queue of 8 is full: 8 after 256 blocks are one per 32. With
  // registered buffers its syncs never reach the device, so these are not registered.
  job.push_back("--fdatasync=256");
  return timed(std::move(job), duration, "write");
}

StatusOr<Figure> FioFile::write_small_for(Nanos duration) {
  std::vector<std::string> job = job_on(path_, bytes_);
  for (const char* more : {"--overwrite=1", "--bs=4k", "--iodepth=32"}) job.push_back(more);
  return timed(std::move(job), duration, "randwrite");
}
}  // namespace terrace
