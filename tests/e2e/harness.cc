#include "tests/e2e/harness.h"

#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "proto/control.grpc.pb.h"

namespace terrace::e2e {
namespace {

uint16_t port_in(const std::string& line, const std::string& name) {
  const size_t at = line.find("\"" + name + "\":");
  TERRACE_CHECK(at != std::string::npos);
  return static_cast<uint16_t>(std::stoul(line.substr(at + name.size() + 3)));
}

std::string read_line(int fd) {
  std::string line;
  char c = 0;
  while (::read(fd, &c, 1) == 1 && c != '\n') line += c;
  return line;
}
}  // namespace

ScratchDirectory::ScratchDirectory() {
  std::string pattern = (std::filesystem::temp_directory_path() / "terrace-test-XXXXXX").string();
  TERRACE_CHECK(::mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}
ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

NodeProcess::NodeProcess(std::vector<std::string> flags, const std::function<void()>& prepare) {
  std::vector<std::string> words = {TERRACE_NODE_PROGRAM, "--dev", "--control-port", "0",
                                    "--data-port",        "0",     "--metrics-port", "0",
                                    "--log-level",        "warn"};
  words.insert(words.end(), flags.begin(), flags.end());
  int pipe_fds[2];
  TERRACE_CHECK(::pipe2(pipe_fds, O_CLOEXEC) == 0);
  pid_ = ::fork();
  TERRACE_CHECK(pid_ >= 0);
  if (pid_ == 0) {
    ::dup2(pipe_fds[1], STDOUT_FILENO);
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    if (prepare) prepare();
    ::execv(arguments[0], arguments.data());
    std::_Exit(127);
  }
  ::close(pipe_fds[1]);
  out_ = pipe_fds[0];
  const std::string ready = read_line(out_);
  TERRACE_CHECK(ready.find("\"ready\"") != std::string::npos);
  control_port_ = port_in(ready, "control_port");
  data_port_ = port_in(ready, "data_port");
  metrics_port_ = port_in(ready, "metrics_port");
}

NodeProcess::~NodeProcess() {
  kill();
  ::close(out_);
}

void NodeProcess::signal(int number) {
  if (pid_ > 0) ::kill(pid_, number);
}

int NodeProcess::wait() {
  int status = 0;
  if (pid_ > 0) ::waitpid(pid_, &status, 0);
  pid_ = -1;
  return status;
}

void NodeProcess::kill() {
  if (pid_ <= 0) return;
  signal(SIGKILL);
  wait();
}

uint64_t NodeProcess::counter(const std::string& name) const {
  const auto stub =
      proto::Admin::NewStub(grpc::CreateChannel(endpoint(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  proto::NodeStatusReply reply;
  const grpc::Status status = stub->NodeStatus(&context, {}, &reply);
  EXPECT_TRUE(status.ok()) << status.error_message();
  const auto found = reply.counters().find(name);
  return found == reply.counters().end() ? 0 : found->second;
}

Fingerprint TestClient::raw_fingerprint() {
  Fingerprint fingerprint;
  fingerprint.model_id = "raw";
  return fingerprint;
}

DataPath& OverEachPath::path() {
  static DataPath path = DataPath::automatic;
  return path;
}

std::string name_of_path(const testing::TestParamInfo<DataPath>& info) {
  return info.param == DataPath::tcp ? "tcp" : "shm";
}

ClientConfig TestClient::config(const std::string& endpoint) {
  ClientConfig config;
  config.endpoints = {endpoint};
  config.data_path = OverEachPath::path();
  return config;
}

TestClient::TestClient(const std::vector<std::string>& endpoints, uint64_t memory_bytes,
                       const Fingerprint& fingerprint)
    : TestClient(
          [&endpoints] {
            ClientConfig several = config(endpoints.at(0));
            several.endpoints = endpoints;
            return several;
          }(),
          memory_bytes, fingerprint) {}

TestClient::TestClient(const ClientConfig& config, uint64_t memory_bytes,
                       const Fingerprint& fingerprint) {
  auto memory = AlignedBuffer::allocate(memory_bytes);
  TERRACE_CHECK(memory.ok());
  memory_ = *std::move(memory);
  auto client = Client::open(config);
  if (!client.ok()) std::fprintf(stderr, "%s\n", client.status().to_string().c_str());
  TERRACE_CHECK(client.ok());
  client_ = *std::move(client);
  auto ns = client_->open_namespace("test", fingerprint);
  if (!ns.ok()) std::fprintf(stderr, "%s\n", ns.status().to_string().c_str());
  TERRACE_CHECK(ns.ok());
  ns_ = *ns;
  const DataPath wanted = OverEachPath::path();
  for (const NodeInfo& node : client_->nodes()) {
    TERRACE_CHECK(wanted == DataPath::automatic || node.data_path == wanted);
  }
  auto region = client_->register_memory(memory_.span());
  TERRACE_CHECK(region.ok());
  region_ = *region;
}

ChunkKey TestClient::key(const std::string& name) {
  auto key = client_->raw_key(ns_, name);
  TERRACE_CHECK(key.ok());
  return *key;
}

std::vector<std::byte> TestClient::content(const std::string& name, uint64_t bytes) {
  uint64_t seed = 0;
  const ChunkKey digest = sha256(name);
  std::memcpy(&seed, digest.digest.data(), sizeof(seed));
  std::vector<std::byte> out(bytes);
  Prng(seed).fill(out);
  return out;
}

StatusCode TestClient::put(const std::string& name, uint64_t bytes, Durability durability,
                           uint32_t sections) {
  const std::vector<std::byte> wanted = content(name, bytes);
  std::copy(wanted.begin(), wanted.end(), memory().begin());
  std::vector<SectionSpec> specs;
  const uint64_t each = bytes / sections;
  for (uint32_t s = 0; s < sections; ++s) {
    const uint64_t length = s + 1 == sections ? bytes - each * (sections - 1) : each;
    specs.push_back({SectionKind::raw, Codec::identity, static_cast<uint16_t>(s), length});
  }
  const Fragment whole{0, region_, 0, bytes};
  PutItem item;
  item.key = key(name);
  item.sections = specs;
  item.fragments = {&whole, 1};
  item.raw_key = name;
  PutOptions options;
  options.durability = durability;
  auto op = client_->put(ns_, {&item, 1}, options);
  if (!op.ok()) return op.status().code();
  auto done = client_->wait(*op, std::chrono::seconds(20));
  if (!done.ok()) return done.status().code();
  return done->key_codes.empty() ? done->status.code() : done->key_codes[0];
}

StatusOr<OpId> TestClient::start_put(const std::string& name, uint64_t bytes, Durability durability,
                                     uint64_t at) {
  const std::vector<std::byte> wanted = content(name, bytes);
  std::copy(wanted.begin(), wanted.end(), memory().begin() + static_cast<long>(at));
  const SectionSpec section{SectionKind::raw, Codec::identity, 0, bytes};
  const Fragment whole{0, region_, at, bytes};
  PutItem item;
  item.key = key(name);
  item.sections = {&section, 1};
  item.fragments = {&whole, 1};
  item.raw_key = name;
  PutOptions options;
  options.durability = durability;
  options.deadline = std::chrono::seconds(5);
  return client_->put(ns_, {&item, 1}, options);
}

StatusCode TestClient::fetch(const std::string& name, uint64_t bytes, Completion* completion) {
  std::fill_n(memory().begin(), bytes, std::byte{0xA5});
  const Fragment whole{0, region_, 0, bytes};
  const FetchItem item{key(name), {&whole, 1}};
  auto op = client_->fetch(ns_, {&item, 1}, {});
  if (!op.ok()) return op.status().code();
  auto done = client_->wait(*op, std::chrono::seconds(20));
  if (!done.ok()) return done.status().code();
  const StatusCode code = done->key_codes.empty() ? done->status.code() : done->key_codes[0];
  if (completion != nullptr) *completion = *done;
  if (code != StatusCode::kOk) return code;
  const std::vector<std::byte> wanted = content(name, bytes);
  const bool same = std::equal(wanted.begin(), wanted.end(), memory().begin());
  EXPECT_TRUE(same) << "wrong bytes were served for " << name;
  return same ? StatusCode::kOk : StatusCode::kDataLoss;
}
}  // namespace terrace::e2e
