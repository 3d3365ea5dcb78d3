// tests/sim/sim_env.h - a rocksdb::Env whose files are SimFiles: what RocksDB did not sync is lost
// in the same power cut as the simulated device's. Threads and time are the machine's.
#pragma once
#include <memory>

#include "tests/sim/sim_files.h"

namespace rocksdb {
class Env;
}

namespace terrace::sim {

class SimEnv {
 public:
  explicit SimEnv(SimDisk* disk);
  ~SimEnv();
  /// For MetadataStore::Options::env; lives as long as this.
  rocksdb::Env* env() const { return env_.get(); }
  /// Power cuts, failures, canaries.
  SimFiles& files() { return *files_; }

 private:
  const std::shared_ptr<SimFiles> files_;
  std::unique_ptr<rocksdb::Env> env_;
};
}  // namespace terrace::sim
