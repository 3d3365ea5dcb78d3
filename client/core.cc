#include "client/core.h"

#include <unistd.h>

#include <algorithm>

#include "base/cpu.h"
#include "base/limits.h"
#include "client/registering.h"

namespace terrace {
namespace {

constexpr Nanos kMailboxRetry = milliseconds(1);
constexpr int kFarewellTurnsMax = 64;

class CloseOp final : public Op {
 public:
  explicit CloseOp(std::promise<void>* closed) : closed_(closed) {}
  void done(Status) override {
    closed_->set_value();
    delete this;  // owned by nobody else: the transport's last operation
  }

 private:
  std::promise<void>* const closed_;
};

Status closed_status() {
  return error(StatusCode::kFailedPrecondition, "client is closed");
}
}  // namespace

void Client::Core::pause_caller(Nanos time) {
  std::mutex mutex;
  std::condition_variable never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, time);
}

Client::Core::Core(const ClientConfig& config,
                   std::vector<std::unique_ptr<ControlChannel>> controls)
    : config_(config),
      pid_(::getpid()),
      owners_(config.endpoints),
      completions_(config.operations_max) {
  TERRACE_CHECK(controls.size() == config.endpoints.size());
  for (std::unique_ptr<ControlChannel>& control : controls) {
    nodes_.push_back({std::move(control), std::make_unique<Worker>(), nullptr});
  }
}

Client::Core::~Core() {
  if (!thread_.joinable()) return;
  loop_->stop();
  farewell_.set_value();
  thread_.join();
}

bool Client::Core::in_this_process() const {
  return ::getpid() == pid_;
}

void Client::Core::run(std::promise<Status>* started) {
  Loop::Options options;
  options.poll_for = config_.poll_for;
  StatusOr<std::vector<uint32_t>> cpus = parse_cpu_list(config_.cpus);
  if (!cpus.ok()) return started->set_value(cpus.status());
  options.cpus = *std::move(cpus);
  options.mailbox_tasks_max = 1024 + 4 * config_.operations_max;
  StatusOr<std::unique_ptr<Loop>> loop = Loop::create(options, &clock_);
  if (!loop.ok()) return started->set_value(loop.status());
  loop_ = loop->get();
  {
    Operations operations({loop_, &completions_, &namespaces_, &counters_, &views_,
                           [this](uint32_t node, Status result) { first_attempt(node, result); },
                           config_.accelerator});
    Links links(loop_, &operations, config_.data_path);
    std::vector<std::unique_ptr<NodeSession>> sessions;
    std::vector<NodeSession*> bound;
    for (uint32_t node = 0; node < nodes_.size(); ++node) {
      sessions.push_back(std::make_unique<NodeSession>(
          NodeSession::Parts{loop_, &links, nodes_[node].control.get(), nodes_[node].worker.get(),
                             &namespaces_, &counters_, &operations, node},
          config_));
      bound.push_back(nodes_[node].session = sessions.back().get());
    }
    operations.bind(&links, bound);
    operations_ = &operations;
    links_ = &links;
    started->set_value(ok_status());
    loop_->run();
    farewell_.get_future().wait();  // stop() may still be waking the loop
    // Closed: what is left are deferred tasks, and they may name what is about to go.
    for (int i = 0; i < kFarewellTurnsMax && loop_->turn(Nanos(0)) > 0; ++i) {
    }
  }
}

void Client::Core::close() {
  const std::lock_guard lock(close_mutex_);
  if (closed_.exchange(true)) return;
  // First, so that no session takes the workers' end for its node's.
  for_sessions([](NodeSession* session) { session->close(); });
  for (const Node& node : nodes_) node.control->shut_down();
  for (const Node& node : nodes_) node.worker->stop();
  std::promise<void> closed;
  std::future<void> done = closed.get_future();
  post_surely([this, &closed] { close_on_loop(&closed); });
  done.wait();
}

void Client::Core::close_on_loop(std::promise<void>* closed) {
  operations_->close([this, closed] { links_->all.close(new CloseOp(closed)); });
}

void Client::Core::post_surely(Task task) {
  while (!loop_->post(task).ok()) pause_caller(kMailboxRetry);
}

void Client::Core::for_sessions(const std::function<void(NodeSession*)>& work) {
  std::promise<void> worked;
  std::future<void> done = worked.get_future();
  post_surely([this, &work, &worked] {
    for (const Node& node : nodes_) work(node.session);
    worked.set_value();
  });
  done.wait();
}

Status Client::Core::check_process() const {
  if (in_this_process()) return ok_status();
  return error(StatusCode::kFailedPrecondition,
               "this process (" + std::to_string(::getpid()) + ") forked from the one that " +
                   "opened the client (" + std::to_string(pid_) + "): open another");
}

Status Client::Core::check_usable() const {
  TERRACE_RETURN_IF_ERROR(check_process());
  if (closed_.load(std::memory_order_acquire)) return closed_status();
  return ok_status();
}

StatusOr<RegionId> Client::Core::register_memory(std::span<std::byte> memory) {
  TERRACE_RETURN_IF_ERROR(check_usable());
  if (memory.empty()) return error(StatusCode::kInvalidArgument, "a region of 0 bytes");
  if (regions_.size() >= kRegionsPerSessionMax) {
    return error(StatusCode::kResourceExhausted,
                 "regions of one client: at most " + std::to_string(kRegionsPerSessionMax));
  }
  auto registering = std::make_shared<Registering>(memory);
  TERRACE_RETURN_IF_ERROR(loop_->post(
      [this, registering] { registering->start(registering, &links_->all, &regions_); }));
  return registering->wait(config_.open_timeout);
}

Status Client::Core::unregister_memory(RegionId region) {
  TERRACE_RETURN_IF_ERROR(check_usable());
  TERRACE_RETURN_IF_ERROR(regions_.begin_remove(region));
  const auto removed = std::make_shared<std::promise<Status>>();
  std::future<Status> answer = removed->get_future();
  const Status posted = loop_->post([this, region, removed] {
    const Status status = links_->all.unregister_region(region);
    status.ok() ? regions_.remove(region) : regions_.keep(region);
    removed->set_value(status);
  });
  if (!posted.ok()) {
    regions_.keep(region);
    return posted;
  }
  if (answer.wait_for(config_.open_timeout) != std::future_status::ready) {
    return error(StatusCode::kUnavailable, "the client's loop did not answer in time");
  }
  return answer.get();
}

StatusOr<std::vector<ChunkKey>> Client::Core::prefix_keys(NamespaceId ns,
                                                          std::span<const uint32_t> tokens,
                                                          uint32_t shard,
                                                          std::string_view extra) const {
  TERRACE_ASSIGN_OR_RETURN(const Info info, namespaces_.find(ns));
  if (info->shape->raw()) {
    return error(StatusCode::kInvalidArgument,
                 "namespace \"" + info->name + "\" holds raw objects: it has no prefix keys");
  }
  KeyParts parts;
  parts.fingerprint = info->digest;
  parts.salt = config_.tenant;
  parts.kind = KeyKind::prefix;
  parts.shard = shard;
  parts.tokens_per_chunk = info->tokens_per_chunk;
  parts.tokens = tokens;
  parts.extra = extra;
  return chain_keys(parts);
}

StatusOr<ChunkKey> Client::Core::raw_key(NamespaceId ns, std::string_view key) const {
  TERRACE_ASSIGN_OR_RETURN(const Info info, namespaces_.find(ns));
  if (key.size() > kRawKeyBytesMax) {
    return error(StatusCode::kInvalidArgument, "raw key of " + std::to_string(key.size()) +
                                                   " bytes; at most " +
                                                   std::to_string(kRawKeyBytesMax));
  }
  KeyParts parts;
  parts.fingerprint = info->digest;
  parts.salt = config_.tenant;
  parts.kind = KeyKind::raw;
  parts.extra = key;
  return key_of(parts);
}

Status Client::Core::source_ready(OpId put, uint32_t item, uint32_t first, uint32_t count) {
  TERRACE_RETURN_IF_ERROR(check_usable());
  TERRACE_RETURN_IF_ERROR(completions_.check_source(put, item, first, count));
  return loop_->post(
      [this, put, item, first, count] { operations_->source_ready(put, item, first, count); });
}

void Client::Core::cancel(OpId op) {
  if (!check_usable().ok()) return;
  const Status posted = loop_->post([this, op] { operations_->cancel(op); });
  if (!posted.ok()) return;  // overloaded: its deadline ends it
}

void Client::Core::release(LeaseId lease) {
  if (lease == kNoLease || !check_usable().ok()) return;
  const Status posted = loop_->post([this, lease] { operations_->release(lease); });
  if (!posted.ok()) return;  // it ends by its own time
}

void Client::Core::release_right(const ComputeRight& right) {
  if (!right || !check_usable().ok()) return;
  (void)loop_->post([this, right] { operations_->release_right(right); });  // else it runs out
}

void Client::Core::touch(NamespaceId ns, std::span<const ChunkKey> keys) {
  if (keys.empty() || !check_usable().ok()) return;
  const auto some = keys.first(std::min<size_t>(keys.size(), kKeysPerRequestMax));
  for (const Share& share : split(owners_, some)) {
    std::vector<ChunkKey> used;
    for (const size_t i : share) used.push_back(some[i]);
    const Status posted = loop_->post([this, ns, node = share.node(), used = std::move(used)] {
      operations_->touch(ns, node, used);
    });
    if (!posted.ok()) return;  // overloaded: the order stays as it was
  }
}

void Client::Core::release_view(ViewId view) {
  if (!in_this_process()) return;
  // Of a client that is closed too: the node has heard, the mapping goes here.
  const std::shared_ptr<const Views::Held> held = views_.release(view);
  if (held == nullptr || closed_.load(std::memory_order_acquire)) return;
  post_surely([this, held] { operations_->release_view(*held); });
}

std::vector<NodeInfo> Client::Core::nodes() const {
  std::vector<NodeInfo> infos;
  for (const Node& node : nodes_) infos.push_back(node.session->info());
  return infos;
}
}  // namespace terrace
