// How a client comes to its nodes: the first answers, and namespaces opened on all of them. These
// calls block; a node that does not answer costs them a second when another one does.
#include <algorithm>
#include <string>

#include "client/core.h"

namespace terrace {
namespace {

constexpr Nanos kRetryPeriod = milliseconds(20);
constexpr Nanos kLateRetryPeriod = milliseconds(100);
/// How long the other nodes get once one has answered.
constexpr Nanos kOthersGrace = seconds(1);

/// Nobody is there now; somebody may be soon.
bool is_absence(StatusCode code) {
  return code == StatusCode::kUnavailable || code == StatusCode::kUnauthenticated ||
         code == StatusCode::kDeadlineExceeded || code == StatusCode::kCancelled;
}

/// The node holds, or may not hold, something else under that name.
bool is_refusal(StatusCode code) {
  return code == StatusCode::kFailedPrecondition || code == StatusCode::kInvalidArgument ||
         code == StatusCode::kPermissionDenied;
}

/// Waits until `all` holds, but once `one` does no longer than the grace.
template <class One, class All>
void await(std::unique_lock<std::mutex>* lock, std::condition_variable* changed, Nanos timeout,
           One one, All all) {
  const SystemClock clock;
  const Nanos end = clock.now() + timeout;
  changed->wait_for(*lock, timeout, [&] { return one() || all(); });
  const Nanos left = std::max(Nanos(0), end - clock.now());
  changed->wait_for(*lock, std::min(left, kOthersGrace), all);
}
}  // namespace

void Client::Core::first_attempt(uint32_t node, const Status& result) {
  const std::lock_guard lock(open_mutex_);
  first_answers_.push_back(
      result.ok() || nodes_.size() == 1
          ? result
          : error(result.code(), "node " + config_.endpoints[node] + ": " + result.message()));
  answered_.notify_all();
}

Status Client::Core::first_answers() {
  std::unique_lock lock(open_mutex_);
  const auto good = [this] {
    return std::any_of(first_answers_.begin(), first_answers_.end(),
                       [](const Status& answer) { return answer.ok(); });
  };
  // An attempt has two steps, each bounded by open_timeout; together they get no more.
  await(&lock, &answered_, config_.open_timeout, good,
        [this] { return first_answers_.size() == nodes_.size(); });
  if (good()) return ok_status();
  if (!first_answers_.empty()) return first_answers_[0];
  std::string names;
  for (const std::string& name : config_.endpoints) names += (names.empty() ? "" : ", ") + name;
  return error(StatusCode::kUnavailable, "node " + names + " did not answer within " +
                                             std::to_string(config_.open_timeout.count()) + " ms");
}

Status Client::Core::open() {
  std::promise<Status> started;
  std::future<Status> running = started.get_future();
  closed_ = true;  // no loop yet, and perhaps no thread for one: close() has nothing to do
  thread_ = std::thread([this, &started] { run(&started); });
  if (const Status status = running.get(); !status.ok()) {
    thread_.join();
    return status;
  }
  closed_ = false;
  post_surely([this] {
    for (const Node& node : nodes_) node.session->connect();
  });
  TERRACE_RETURN_IF_ERROR(first_answers());
  // Others are there: keys of those that are not shall not wait for them.
  if (nodes_.size() == 1) return ok_status();
  for_sessions([](NodeSession* session) { session->skip_unless_up(); });
  return ok_status();
}

struct Client::Core::Opening {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<StatusOr<uint32_t>> answers;  // guarded by mutex
};

void Client::Core::open_on_worker(uint32_t node, const Info& info, Nanos timeout,
                                  const std::shared_ptr<Opening>& opening) {
  const auto answer = [opening](StatusOr<uint32_t> ns) {
    const std::lock_guard lock(opening->mutex);
    opening->answers.push_back(std::move(ns));
    opening->changed.notify_all();
  };
  // On the worker, so that a reconnect can never miss a namespace.
  const Status posted = nodes_[node].worker->post([this, node, info, timeout, answer] {
    StatusOr<uint32_t> wire = nodes_[node].control->open_namespace(
        nodes_[node].session->secret(), info->name, info->canonical, timeout);
    if (wire.ok()) wire = static_cast<uint32_t>(namespaces_.add(info, node, *wire));
    answer(std::move(wire));
  });
  if (!posted.ok()) answer(posted);
}

StatusOr<NamespaceId> Client::Core::open_on_all(const Info& info, Nanos timeout) {
  const auto opening = std::make_shared<Opening>();
  std::vector<uint32_t> asked;
  for (uint32_t node = 0; node < nodes_.size(); ++node) {
    if (!skipped(node) || all_skipped()) asked.push_back(node);
  }
  for (const uint32_t node : asked) open_on_worker(node, info, timeout, opening);
  std::unique_lock lock(opening->mutex);
  const auto& answers = opening->answers;
  await(
      &lock, &opening->changed, timeout,
      [&] {
        return std::any_of(answers.begin(), answers.end(), [](const auto& a) { return a.ok(); });
      },
      [&] { return answers.size() == asked.size(); });
  StatusOr<NamespaceId> result =
      error(StatusCode::kDeadlineExceeded,
            "open_namespace \"" + info->name + "\": no answer within open_timeout, " +
                std::to_string(config_.open_timeout.count()) + " ms");
  for (const StatusOr<uint32_t>& answer : answers) {
    // One that says no outweighs all that say yes: they hold another model's chunks.
    if (!answer.ok() && is_refusal(answer.status().code())) return answer.status();
    if (answer.ok()) {
      result = NamespaceId{*answer};
    } else if (!result.ok()) {
      result = answer.status();
    }
  }
  return result;
}

StatusOr<NamespaceId> Client::Core::open_namespace(const std::string& name,
                                                   const Fingerprint& fingerprint) {
  TERRACE_RETURN_IF_ERROR(check_usable());
  TERRACE_RETURN_IF_ERROR(fingerprint.validate());
  const Info info = std::make_shared<const NamespaceInfo>(info_of(name, fingerprint));
  const Nanos deadline = clock_.now() + config_.open_timeout;
  StatusOr<NamespaceId> ns = NamespaceId{};
  while (true) {
    ns = open_on_all(info, deadline - clock_.now());
    if (ns.ok()) break;
    const StatusCode code = ns.status().code();
    // The session may just have gone, and another be on its way.
    const bool session_gone =
        code == StatusCode::kUnavailable || code == StatusCode::kUnauthenticated;
    if (!session_gone || all_skipped()) return ns.status();
    if (clock_.now() + kRetryPeriod >= deadline) return ns.status();
    pause_caller(kRetryPeriod);
    TERRACE_RETURN_IF_ERROR(check_usable());
  }
  for (uint32_t node = 0; node < nodes_.size(); ++node) {
    if (!namespaces_.wire(*ns, node).ok()) open_late(node, info, *ns);
  }
  return ns;
}

/// Asks until the node has it or says no. Each session opens all namespaces that are known when it
/// opens, so this is for one that opened just before, or whose control call alone was lost.
void Client::Core::open_late(uint32_t node, const Info& info, NamespaceId ns) {
  // When the worker is overloaded the next session brings it.
  (void)nodes_[node].worker->post([this, node, info, ns] {
    const NodeSession::State state = nodes_[node].session->state();
    if (namespaces_.wire(ns, node).ok() || state == NodeSession::State::skipped ||
        state == NodeSession::State::closed) {
      return;
    }
    if (state == NodeSession::State::up) {
      const StatusOr<uint32_t> wire = nodes_[node].control->open_namespace(
          nodes_[node].session->secret(), info->name, info->canonical, kOthersGrace);
      if (wire.ok() || !is_absence(wire.status().code())) {
        return namespaces_.set_wire(ns, node, wire);
      }
    }
    // In the queue again, so that the session's own attempts have their turn.
    if (nodes_[node].worker->pause(kLateRetryPeriod)) open_late(node, info, ns);
  });
}
}  // namespace terrace
