#include "storage/use_recorder.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "base/log.h"
#include "storage/core.h"
#include "storage/use_file.h"

namespace terrace {
namespace {
constexpr Nanos kStepEvery = milliseconds(1);
constexpr Nanos kLookEvery = milliseconds(10);
constexpr int64_t kLongestDownS = int64_t{10} * 365 * 24 * 3600;  // and no clock overflows
}  // namespace

UseRecorder::UseRecorder(ChunkStore::Core& core)
    : core_(core), timer_([this] { tick(); }), workers_(core.loop, 1) {}

/// A write that runs has all it needs.
UseRecorder::~UseRecorder() {
  core_.loop->disarm(&timer_);
  if (!workers_.idle()) workers_.give_up();
}

bool UseRecorder::wanted() const {
  return core_.config.uses_period.count() > 0 && !core_.config.data_directory.empty() &&
         core_.policy->remembers();
}

void UseRecorder::recall() {
  if (!wanted()) return;
  const Nanos begin = core_.loop->now();
  StatusOr<UseFile> file = read_uses(core_.config.data_directory);
  Status taken = file.status();
  if (taken.code() == StatusCode::kNotFound) return;
  if (file.ok()) {
    const size_t objects = file->memory.objects.size();
    // A wall clock that was set back since then says that no time has passed.
    const int64_t down_s = std::clamp<int64_t>(unix_seconds() - file->taken_s, 0, kLongestDownS);
    if (core_.policy->recall(std::move(file->memory), begin - seconds(down_s))) {
      core_.metrics.uses_recalled.set(objects);
      spdlog::info("event=uses_recalled objects={} age_s={}", objects, down_s);
      return;
    }
    taken = error(StatusCode::kDataLoss, "of another model than this build's");
  }
  core_.metrics.uses_refused.add();
  spdlog::warn("event=uses_refused why=\"{}\": what was learned of uses begins anew",
               taken.to_string());
}

void UseRecorder::start() {
  stopped_ = false;
  arm();
}

void UseRecorder::arm() {
  if (!stopped_ && wanted()) {
    core_.loop->arm(&timer_, core_.loop->now() + core_.config.uses_period);
  }
}

void UseRecorder::stop() {
  if (std::exchange(stopped_, true) || !wanted()) return;
  last_ = true;
  if (scan_) core_.loop->arm(&timer_, core_.loop->now());  // it has no time to rest any more
  if (writing_) watch();
  if (!scan_ && !writing_) begin();
}

/// The store waits for this one.
void UseRecorder::watch() {
  until_ = core_.loop->now() + core_.config.uses_patience;
  core_.loop->arm(&timer_, core_.loop->now() + kLookEvery);
}

void UseRecorder::give_up() {
  workers_.give_up();
  writing_ = false;
  last_ = false;
  core_.metrics.uses_write_failures.add();
  spdlog::warn(
      "event=uses_given_up patience_ms={}: a write of {}/{} does not end; it stays as it was",
      std::chrono::duration_cast<milliseconds>(core_.config.uses_patience).count(),
      core_.config.data_directory, kUseFile);
}

void UseRecorder::begin() {
  last_ = false;
  taken_s_ = unix_seconds();
  scan_.emplace(core_.loop->now());
  core_.loop->arm(&timer_, core_.loop->now());
}

void UseRecorder::tick() {
  if (writing_) {
    if (core_.loop->now() >= until_) return give_up();
    core_.loop->arm(&timer_, core_.loop->now() + kLookEvery);
    return;
  }
  if (!scan_) return begin();
  std::optional<UseMemory> memory = core_.policy->remember_step(&*scan_);
  if (!memory) {
    core_.loop->arm(&timer_, core_.loop->now() + (stopped_ ? Nanos(0) : kStepEvery));
    return;
  }
  scan_.reset();
  write(std::move(*memory));
}

void UseRecorder::write(UseMemory memory) {
  writing_ = true;
  const auto file = std::make_shared<UseFile>(UseFile{taken_s_, std::move(memory)});
  const auto result = std::make_shared<Status>();
  workers_.add(
      [file, result, directory = core_.config.data_directory] {
        *result = write_uses(directory, *file);
      },
      [this, result](const Status& began) { written(began.ok() ? *result : began); });
  if (stopped_) watch();
}

void UseRecorder::written(const Status& result) {
  writing_ = false;
  core_.loop->disarm(&timer_);
  (result.ok() ? core_.metrics.uses_writes : core_.metrics.uses_write_failures).add();
  if (!result.ok() && !failing_) {
    spdlog::warn("event=uses_not_written why=\"{}\": a restart would know older ones",
                 result.to_string());
  }
  failing_ = !result.ok();
  if (last_) return begin();
  arm();
}
}  // namespace terrace
