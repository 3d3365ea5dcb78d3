#include "client/core.h"

#include <unistd.h>

#include <algorithm>

#include "base/limits.h"
#include "client/registering.h"

namespace terrace {
namespace {

constexpr Nanos kRetryPeriod = milliseconds(20);
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

/// Blocks the caller: only in calls that may.
void pause(Nanos time) {
  std::mutex mutex;
  std::condition_variable never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, time);
}

Status closed_status() {
  return error(StatusCode::kFailedPrecondition, "client is closed");
}
}  // namespace

Client::Core::Core(const ClientConfig& config, std::unique_ptr<ControlChannel> control)
    : config_(config),
      pid_(::getpid()),
      control_(std::move(control)),
      completions_(config.operations_max) {}

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
  options.mailbox_tasks_max = 1024 + 4 * config_.operations_max;
  StatusOr<std::unique_ptr<Loop>> loop = Loop::create(options, &clock_);
  if (!loop.ok()) return started->set_value(loop.status());
  loop_ = loop->get();
  {
    Operations operations({loop_, &completions_, &namespaces_, &counters_, &views_,
                           [this](Status result) { first_attempt_.set_value(std::move(result)); }});
    Links links(loop_, &operations, config_.data_path);
    NodeSession session(
        {loop_, &links, control_.get(), &worker_, &namespaces_, &counters_, &operations}, config_);
    operations.bind(&links, &session);
    operations_ = &operations;
    session_ = &session;
    links_ = &links;
    started->set_value(ok_status());
    loop_->run();
    farewell_.get_future().wait();  // stop() may still be waking the loop
    // Closed: what is left are deferred tasks, and they may name what is about to go.
    for (int i = 0; i < kFarewellTurnsMax && loop_->turn(Nanos(0)) > 0; ++i) {
    }
  }
}

Status Client::Core::open() {
  std::promise<Status> started;
  std::future<Status> running = started.get_future();
  std::future<Status> first = first_attempt_.get_future();
  thread_ = std::thread([this, &started] { run(&started); });
  if (const Status status = running.get(); !status.ok()) {
    closed_ = true;
    thread_.join();
    return status;
  }
  post_surely([this] { session_->connect(); });
  // The attempt has two steps, each bounded by open_timeout; together they get no more.
  if (first.wait_for(config_.open_timeout) == std::future_status::ready) return first.get();
  return error(StatusCode::kUnavailable, "node " + config_.endpoint + " did not answer within " +
                                             std::to_string(config_.open_timeout.count()) + " ms");
}

void Client::Core::close() {
  const std::lock_guard lock(close_mutex_);
  if (closed_.exchange(true)) return;
  control_->shut_down();
  worker_.stop();
  std::promise<void> closed;
  std::future<void> done = closed.get_future();
  post_surely([this, &closed] { close_on_loop(&closed); });
  done.wait();
}

void Client::Core::close_on_loop(std::promise<void>* closed) {
  session_->close();
  operations_->close([this, closed] { links_->all.close(new CloseOp(closed)); });
}

void Client::Core::post_surely(Task task) {
  while (!loop_->post(task).ok()) pause(kMailboxRetry);
}

template <class Work>
auto Client::Core::on_loop(Work work) -> std::invoke_result_t<Work> {
  using Value = std::invoke_result_t<Work>;
  auto promise = std::make_shared<std::promise<Value>>();
  std::future<Value> answer = promise->get_future();
  const Status posted = loop_->post([promise, work] { promise->set_value(work()); });
  if (!posted.ok()) return posted;
  if (answer.wait_for(config_.open_timeout) != std::future_status::ready) {
    return Status(StatusCode::kUnavailable, "the client's loop did not answer in time");
  }
  return answer.get();
}

Status Client::Core::check_usable() const {
  if (!in_this_process()) {
    return error(StatusCode::kFailedPrecondition,
                 "this process (" + std::to_string(::getpid()) + ") forked from the one that " +
                     "opened the client (" + std::to_string(pid_) + "): open another");
  }
  if (closed_.load(std::memory_order_acquire)) return closed_status();
  return ok_status();
}

StatusOr<uint32_t> Client::Core::open_on_worker(const Info& info, Nanos timeout) {
  using Answer = StatusOr<uint32_t>;
  auto promise = std::make_shared<std::promise<Answer>>();
  std::future<Answer> answer = promise->get_future();
  // On the worker, so that a reconnect can never miss a namespace.
  TERRACE_RETURN_IF_ERROR(worker_.post([this, info, promise, timeout] {
    Answer wire =
        control_->open_namespace(session_->secret(), info->name, info->canonical, timeout);
    if (wire.ok()) wire = static_cast<uint32_t>(namespaces_.add(info, *wire));
    promise->set_value(std::move(wire));
  }));
  if (answer.wait_for(timeout) != std::future_status::ready) {
    return error(StatusCode::kDeadlineExceeded,
                 "open_namespace \"" + info->name + "\": no answer within open_timeout, " +
                     std::to_string(config_.open_timeout.count()) + " ms");
  }
  return answer.get();
}

StatusOr<NamespaceId> Client::Core::open_namespace(const std::string& name,
                                                   const Fingerprint& fingerprint) {
  TERRACE_RETURN_IF_ERROR(check_usable());
  TERRACE_RETURN_IF_ERROR(fingerprint.validate());
  const Info info = std::make_shared<const NamespaceInfo>(info_of(name, fingerprint));
  const Nanos deadline = clock_.now() + config_.open_timeout;
  while (true) {
    const StatusOr<uint32_t> ns = open_on_worker(info, deadline - clock_.now());
    if (ns.ok()) return NamespaceId{*ns};
    const StatusCode code = ns.status().code();
    // The session may just have gone, and another be on its way.
    const bool session_gone =
        code == StatusCode::kUnavailable || code == StatusCode::kUnauthenticated;
    if (!session_gone || session_->state() == NodeSession::State::skipped) return ns.status();
    if (clock_.now() + kRetryPeriod >= deadline) return ns.status();
    pause(kRetryPeriod);
    TERRACE_RETURN_IF_ERROR(check_usable());
  }
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
  const Status asked = on_loop([this, region]() -> Status {
    const Status status = links_->all.unregister_region(region);
    status.ok() ? regions_.remove(region) : regions_.keep(region);
    return status;
  });
  return asked;
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

void Client::Core::touch(NamespaceId ns, std::span<const ChunkKey> keys) {
  if (keys.empty() || !check_usable().ok()) return;
  const auto some = keys.first(std::min<size_t>(keys.size(), kKeysPerRequestMax));
  const Status posted =
      loop_->post([this, ns, used = std::vector<ChunkKey>(some.begin(), some.end())] {
        operations_->touch(ns, used);
      });
  if (!posted.ok()) return;  // overloaded: the order stays as it was
}

void Client::Core::release_view(ViewId view) {
  if (!in_this_process()) return;
  // Of a client that is closed too: the node has heard, the mapping goes here.
  const std::shared_ptr<const Views::Held> held = views_.release(view);
  if (held == nullptr || closed_.load(std::memory_order_acquire)) return;
  post_surely([this, held] { operations_->release_view(*held); });
}

NodeInfo Client::Core::node() const {
  return session_->node();
}
}  // namespace terrace
