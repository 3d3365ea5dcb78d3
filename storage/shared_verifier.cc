#include "storage/shared_verifier.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <string>
#include <utility>

#include "base/limits.h"
#include "storage/core.h"

namespace terrace {
namespace {

constexpr uint64_t kStepMibMax = 4;  // fewer requests of a bucket; at a low rate a second's worth
constexpr Nanos kBusyPause = milliseconds(100);
constexpr Nanos kMovePause = milliseconds(250);
constexpr int kMovesMax = 3;
constexpr Nanos kClosePause = seconds(1);
}  // namespace

SharedVerifier::SharedVerifier(ChunkStore::Core& core) : core_(core), timer_([this] { tick(); }) {}

SharedVerifier::~SharedVerifier() {
  core_.loop->disarm(&timer_);
  // To close them here could take for ever, as what hangs in storage/shared_calls.h.
  static auto* const kept = new std::deque<std::shared_ptr<SharedVerify>>;
  for (std::shared_ptr<SharedVerify>& each : left_) kept->push_back(std::move(each));
}

void SharedVerifier::arm(Nanos pause) {
  core_.loop->arm(&timer_, core_.loop->now() + pause);
}

void SharedVerifier::run(std::shared_ptr<VerifyPass> pass) {
  pass_ = std::move(pass);
  SharedVerifyOptions options;
  options.step = Nanos(core_.config.shared_timeout) / 4;
  verify_ = std::make_shared<SharedVerify>(core_.shared->medium(), options, &core_.loop->clock());
  unmoved_ = 0;
  arm(Nanos(0));
}

void SharedVerifier::stop() {
  stopped_ = true;
  if (pass_ != nullptr) end(error(StatusCode::kUnavailable, "the store is closing"));
  core_.loop->disarm(&timer_);
}

void SharedVerifier::tick() {
  if (pass_ == nullptr) return close_left();
  if (pass_->cancelled) return end(error(StatusCode::kCancelled, "the pass was cancelled"));
  if (damaged_) return set_aside();
  start_step();
}

void SharedVerifier::start_step() {
  const uint64_t bytes_max = std::clamp<uint64_t>(pass_->mib_per_s, 1, kStepMibMax) * kMiB;
  SharedCall call;
  call.lane = SharedLane::background;
  // A step begins nothing late, but what it reads last may come twice, and in a bucket a listing
  // has many pages.
  call.bytes = core_.shared->medium()->copies() ? kObjectBytesMax : 2 * bytes_max;
  const auto began = std::make_shared<std::atomic<bool>>(false);
  call.work = [verify = verify_, began, bytes_max] {
    *began = true;
    return verify->step(bytes_max);
  };
  call.then = [this, verify = verify_, began](const Status& result) {
    // It waited too long behind other background work, which says nothing of the medium.
    if (*began) return stepped(verify, result);
    if (verify != verify_) return let_go(verify);
    reading_ = false;
    if (result.code() != StatusCode::kDeadlineExceeded) return end(result);  // fenced meanwhile
    arm(kBusyPause);
  };
  const Status started = core_.shared->calls().start(std::move(call));
  reading_ = started.ok();
  if (started.code() == StatusCode::kResourceExhausted) return arm(kBusyPause);
  if (!started.ok()) end(started);
}

void SharedVerifier::stepped(const std::shared_ptr<SharedVerify>& verify, const Status& result) {
  // The thread may still be at it, and closes what it has when it sees that nobody waits.
  const bool late = result.code() == StatusCode::kDeadlineExceeded;
  if (verify != verify_) {
    if (!late) let_go(verify);
    return;
  }
  if (late) return end(result);
  reading_ = false;
  const SharedVerify::Step& did = verify->last();
  pass_->objects += did.objects;
  pass_->bytes += did.bytes;
  pass_->skipped += did.skipped;
  core_.metrics.scrubbed_bytes.add(did.bytes);
  core_.metrics.bytes_verified.add(did.bytes);
  const uint64_t rate = std::max<uint64_t>(1, pass_->mib_per_s) * kMiB;
  pause_ = Nanos(static_cast<int64_t>(did.bytes * 1'000'000'000 / rate));
  if (!result.ok()) return end(result);
  if (did.damaged) {
    ++pass_->bad;
    damaged_ = did.damaged;
    tries_ = 0;
    return set_aside();
  }
  if (!verify->over()) return arm(pause_);
  core_.metrics.scrub_passes.add();
  end(verify->incomplete());
}

void SharedVerifier::set_aside() {
  core_.shared->set_aside(*damaged_, [this, verify = verify_](const Status& result) {
    if (verify == verify_) was_set_aside(result);
  });
}

/// One that stays where it is would be found by every node's listing, and missed by every read.
void SharedVerifier::was_set_aside(const Status& result) {
  const bool gone = result.ok() || result.code() == StatusCode::kNotFound;
  if (!gone && ++tries_ < kMovesMax) return arm(kMovePause);
  if (!gone) {
    ++unmoved_;
    unmoved_why_ = result;
  }
  damaged_.reset();
  arm(pause_);
}

void SharedVerifier::end(Status result) {
  core_.loop->disarm(&timer_);
  verify_->abandon();
  std::shared_ptr<SharedVerify> verify = std::move(verify_);
  if (!std::exchange(reading_, false)) let_go(std::move(verify));
  damaged_.reset();
  if (unmoved_ > 0) {
    std::string text = std::to_string(unmoved_) + " damaged copies could not be moved to " +
                       kSharedQuarantine + "/: " + unmoved_why_.message();
    if (!result.ok()) text = result.message() + "; " + text;
    result = error(result.ok() ? unmoved_why_.code() : result.code(), text);
  }
  const std::shared_ptr<VerifyPass> pass = std::move(pass_);
  pass->result = std::move(result);
  pass->over = true;
  if (!left_.empty() && !stopped_) arm(kClosePause);
}

/// Of a pass that ended in the middle of a copy: it is closed by a thread, because that may block.
/// Nobody else has it.
void SharedVerifier::let_go(std::shared_ptr<SharedVerify> verify) {
  if (!verify->open()) return;
  SharedCall call;
  call.lane = SharedLane::background;
  call.work = [verify] {
    verify->close();
    return ok_status();
  };
  call.then = [](const Status&) {};
  if (core_.shared->calls().start(std::move(call)).ok()) return;
  left_.push_back(std::move(verify));
  if (pass_ == nullptr && !stopped_) arm(kClosePause);
}

void SharedVerifier::close_left() {
  for (std::shared_ptr<SharedVerify>& each : std::exchange(left_, {})) let_go(std::move(each));
}
}  // namespace terrace
