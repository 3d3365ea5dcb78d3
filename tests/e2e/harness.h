// tests/e2e/harness.h - a real node process on free loopback ports, its directory, and a client
// with registered memory. Everything ends with the object.
#pragma once
#include <gtest/gtest.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/prng.h"
#include "client/terrace.h"

namespace terrace::e2e {

/// A scratch directory that is removed with everything in it.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// The program terraced. SIGKILLed on destruction unless it has ended.
class NodeProcess {
 public:
  /// Starts it with `flags` (--dev and free ports are given) and waits for its ready line.
  /// `prepare` runs in the new process before the program does.
  explicit NodeProcess(std::vector<std::string> flags, const std::function<void()>& prepare = {});
  ~NodeProcess();
  std::string endpoint() const { return "127.0.0.1:" + std::to_string(control_port_); }
  uint16_t control_port() const { return control_port_; }
  uint16_t data_port() const { return data_port_; }
  uint16_t metrics_port() const { return metrics_port_; }
  pid_t pid() const { return pid_; }
  /// A counter of its status; 0 when there is none of that name.
  uint64_t counter(const std::string& name) const;
  void signal(int number);
  /// Waits for the end; the exit status as waitpid gives it.
  int wait();
  void kill();

 private:
  pid_t pid_ = -1;
  int out_ = -1;
  uint16_t control_port_ = 0;
  uint16_t data_port_ = 0;
  uint16_t metrics_port_ = 0;
};

/// How the clients of the running test reach their node.
class OverEachPath : public testing::TestWithParam<DataPath> {
 protected:
  void SetUp() override { path() = GetParam(); }
  void TearDown() override { path() = DataPath::automatic; }

 private:
  friend class TestClient;
  static DataPath& path();
};
std::string name_of_path(const testing::TestParamInfo<DataPath>& info);

/// A client in namespace "test" (raw objects, unless a fingerprint is given) with one region.
class TestClient {
 public:
  explicit TestClient(const std::string& endpoint, uint64_t memory_bytes = 64u << 20,
                      const Fingerprint& fingerprint = raw_fingerprint())
      : TestClient(std::vector<std::string>{endpoint}, memory_bytes, fingerprint) {}
  /// Of several nodes.
  explicit TestClient(const std::vector<std::string>& endpoints, uint64_t memory_bytes = 64u << 20,
                      const Fingerprint& fingerprint = raw_fingerprint());
  /// As the configuration says.
  explicit TestClient(const ClientConfig& config, uint64_t memory_bytes = 64u << 20,
                      const Fingerprint& fingerprint = raw_fingerprint());
  static Fingerprint raw_fingerprint();
  static ClientConfig config(const std::string& endpoint);

  Client& sdk() { return *client_; }
  NamespaceId ns() const { return ns_; }
  std::span<std::byte> memory() { return memory_.span(); }
  RegionId region() const { return region_; }
  ChunkKey key(const std::string& name);

  /// Stores bytes made from `name` and waits. The code of the key.
  StatusCode put(const std::string& name, uint64_t bytes, Durability durability,
                 uint32_t sections = 1);
  /// Starts to store them, from `at` in the memory on, as one section, within five seconds.
  StatusOr<OpId> start_put(const std::string& name, uint64_t bytes, Durability durability,
                           uint64_t at);
  /// Fetches the whole object and compares every byte with what put() stored. kDataLoss when the
  /// client says OK and a byte differs: the one thing that must never happen.
  StatusCode fetch(const std::string& name, uint64_t bytes, Completion* completion = nullptr);
  /// The bytes of `name`.
  static std::vector<std::byte> content(const std::string& name, uint64_t bytes);

 private:
  AlignedBuffer memory_;
  std::unique_ptr<Client> client_;
  NamespaceId ns_{};
  RegionId region_{};
};
}  // namespace terrace::e2e
