#include "storage/verifier.h"

#include <algorithm>
#include <utility>

#include "storage/core.h"
#include "storage/object_io.h"

namespace terrace {

struct Verifier::Job {
  uint32_t id = 0;
  bool urgent = false;
  std::shared_ptr<ArenaSpace> space;
  std::unique_ptr<ArenaCheck> check;  // null before the first step
  std::vector<Then> thens;
};

void Verifier::verify(uint32_t id, bool urgent, Then then) {
  std::shared_ptr<Job>& job = jobs_[id];
  if (job == nullptr) {
    job = std::make_shared<Job>();
    job->id = id;
    job->urgent = urgent;
    job->space = core_.dram_of(id);
    core_.pin(id);
    (urgent ? urgent_ : background_).push_back(job);
  } else if (urgent && !job->urgent) {
    job->urgent = true;
    std::erase(background_, job);
    urgent_.push_back(job);
  }
  job->thens.push_back(std::move(then));
  if (std::exchange(stepping_, true)) return;
  core_.later([this] { step(); });
}

/// One MiB of the object whose turn it is; it goes to the end of its line, so that a small one does
/// not wait for a large one.
void Verifier::step() {
  stepping_ = false;
  Line& line = urgent_.empty() ? background_ : urgent_;
  const std::shared_ptr<Job> job = line.front();
  line.pop_front();
  const Status result = check(job.get());
  if (result.ok() && !job->check->over()) {
    line.push_back(job);
  } else {
    end(job, result);
  }
  if (urgent_.empty() && background_.empty()) return;
  if (std::exchange(stepping_, true)) return;
  core_.later([this] { step(); });
}

Status Verifier::check(Job* job) {
  if (job->check == nullptr) {
    StatusOr<ObjectHeader> header = read_arena_header(*job->space, core_.index[job->id]);
    if (!header.ok()) {
      core_.metrics.header_failures.add();
      return header.status();
    }
    job->check = std::make_unique<ArenaCheck>(std::move(*header), job->space);
  }
  const Status result = job->check->step(ArenaCheck::kStepBytes, &core_.metrics);
  if (!result.ok()) core_.metrics.crc_failures_dram.add();
  return result;
}

void Verifier::looked_at(uint32_t id, bool good) {
  ArenaSpace& space = *core_.dram_of(id);
  if (space.verified()) return;
  if (!good) return core_.metrics.warm_failed_objects.add();
  space.set_verified();
  core_.metrics.warm_verified_objects.add();
  core_.metrics.warm_verified_bytes.add(core_.index[id].logical_bytes);
}

void Verifier::end(const std::shared_ptr<Job>& job, const Status& result) {
  jobs_.erase(job->id);
  const bool still = core_.dram_of(job->id) == job->space;  // else it was quarantined meanwhile
  if (still) looked_at(job->id, result.ok());
  if (still && !result.ok()) core_.quarantine(job->id, Tier::dram);
  const Status said = still ? result : error(StatusCode::kDataLoss, "the object was quarantined");
  for (const Then& then : job->thens) then(said);
  core_.unpin(job->id);
}
}  // namespace terrace
