#include "storage/shared_calls.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace terrace {

struct SharedCalls::Running {
  SharedCall call;
  Status result;       // written by the thread, read on the loop once it returned
  Nanos deadline{0};   // of waiting, then of the work
  bool ended = false;  // `then` was called
  bool probe = false;
  List::iterator self;
};

SharedCalls::SharedCalls(std::shared_ptr<SharedMedium> medium, Loop* loop, const Options& options,
                         SharedMetrics* metrics)
    : medium_(std::move(medium)),
      loop_(loop),
      options_(options),
      metrics_(metrics),
      expiry_([this] { expire(); }),
      workers_(loop, options.threads) {}

SharedCalls::~SharedCalls() {
  loop_->disarm(&expiry_);
  TERRACE_CHECK(idle());
  if (running_.empty()) return;
  // What still hangs is in the kernel's hands: it must outlive us, so it is kept for ever.
  static auto* const kept = new std::deque<std::shared_ptr<Running>>;
  for (const std::shared_ptr<Running>& each : running_) kept->push_back(each);
  workers_.give_up();
}

bool SharedCalls::has_room(SharedLane lane) const {
  const size_t max = lane == SharedLane::foreground ? kForegroundMax : kBackgroundMax;
  return !fenced_ && waiting_[static_cast<size_t>(lane)].size() < max;
}

Status SharedCalls::start(SharedCall call) {
  if (fenced_) {
    return error(StatusCode::kUnavailable,
                 "the shared tier does not answer; it is skipped until it does");
  }
  if (!has_room(call.lane)) {
    return error(StatusCode::kResourceExhausted, "too many calls wait for the shared tier");
  }
  auto running = std::make_shared<Running>();
  running->call = std::move(call);
  running->deadline = loop_->now() + options_.timeout;
  ++open_;
  waiting_[static_cast<size_t>(running->call.lane)].push_back(std::move(running));
  pump();
  arm();
  return ok_status();
}

/// Background work has half of the threads at most, so that a load always finds one soon.
void SharedCalls::pump() {
  const uint32_t background_max = std::max(1u, options_.threads / 2);
  while (running_.size() < options_.threads) {
    auto& foreground = waiting_[static_cast<size_t>(SharedLane::foreground)];
    auto& background = waiting_[static_cast<size_t>(SharedLane::background)];
    const bool load = !foreground.empty();
    if (!load && (background.empty() || background_running_ >= background_max)) break;
    auto& from = load ? foreground : background;
    std::shared_ptr<Running> next = std::move(from.front());
    from.pop_front();
    run(std::move(next));
  }
  update_gauges();
}

void SharedCalls::run(std::shared_ptr<Running> running) {
  const uint64_t extra_ms = running->call.bytes * 1000 / kBytesPerSecondMin;
  running->deadline =
      loop_->now() + options_.timeout + milliseconds(static_cast<int64_t>(extra_ms));
  if (running->call.lane == SharedLane::background) ++background_running_;
  running->self = running_.insert(running_.end(), running);
  workers_.add([running] { running->result = running->call.work(); },
               [this, running](const Status& began) {
                 if (!began.ok()) running->result = began;
                 returned(running);
               });
}

void SharedCalls::returned(const std::shared_ptr<Running>& running) {
  running_.erase(running->self);
  if (running->call.lane == SharedLane::background) --background_running_;
  if (running->ended) --hanging_;
  // The medium gave up on a server that says nothing: as good as a call that hangs.
  const bool silent = running->result.code() == StatusCode::kDeadlineExceeded;
  if (silent && !running->ended) fence();
  if (running->probe) {
    probing_ = false;
    // Also with an error: a full file system answers, and only who may sweep can make room.
    if (!running->ended && !silent) {
      fenced_ = false;
      spdlog::info("event=shared_tier_back probe=\"{}\"", running->result.to_string());
    }
  }
  if (!running->ended) end(running.get(), std::move(running->result));
  // Here, on the loop: the thread may be the last to let go of `running`.
  running->call.work = nullptr;
  running->call.holds.clear();
  pump();
}

void SharedCalls::end(Running* running, Status result) {
  running->ended = true;
  --open_;
  const std::function<void(Status)> then = std::exchange(running->call.then, nullptr);
  if (then) then(std::move(result));
}

void SharedCalls::expire() {
  const Nanos now = loop_->now();
  std::vector<std::shared_ptr<Running>> late;
  for (auto& waiting : waiting_) {
    while (!waiting.empty() && waiting.front()->deadline <= now) {
      late.push_back(std::move(waiting.front()));
      waiting.pop_front();
    }
  }
  bool hangs = false;
  for (const std::shared_ptr<Running>& running : running_) {
    if (running->ended || running->deadline > now) continue;
    ++hanging_;
    hangs = true;
    late.push_back(running);
  }
  if (hangs) fence();
  for (const std::shared_ptr<Running>& each : late) {
    metrics_->timeouts.add();
    end(each.get(), error(StatusCode::kDeadlineExceeded, "the shared tier did not answer in time"));
  }
  if (fenced_ && !probing_ && !stopping_ && now >= next_probe_) probe();
  update_gauges();
  arm();
}

void SharedCalls::fence() {
  next_probe_ = loop_->now() + options_.probe_period;
  if (std::exchange(fenced_, true)) return;
  metrics_->fences.add();
  spdlog::warn("event=shared_tier_hangs hanging={}", hanging_);
  for (auto& waiting : waiting_) {
    for (const std::shared_ptr<Running>& each : std::exchange(waiting, {})) {
      end(each.get(), error(StatusCode::kUnavailable, "the shared tier does not answer"));
    }
  }
}

/// On a thread that is free; when all of them hang, the first that returns.
void SharedCalls::probe() {
  next_probe_ = loop_->now() + options_.probe_period;
  if (running_.size() >= options_.threads) return;
  auto running = std::make_shared<Running>();
  running->probe = true;
  running->call.lane = SharedLane::background;
  running->call.work = [medium = medium_] { return medium->probe(); };
  probing_ = true;
  ++open_;
  run(std::move(running));
}

void SharedCalls::arm() {
  const bool needed = open_ > 0 || fenced_;
  if (!needed || expiry_.armed()) return;
  const Nanos step = std::min(options_.timeout / 8, options_.probe_period / 2);
  loop_->arm(&expiry_, loop_->now() + std::max<Nanos>(step, milliseconds(1)));
}

void SharedCalls::update_gauges() {
  metrics_->running.set(running_.size());
  metrics_->waiting.set(waiting_[0].size() + waiting_[1].size());
  metrics_->hanging.set(hanging_);
  metrics_->fenced.set(fenced_ ? 1 : 0);
}
}  // namespace terrace
