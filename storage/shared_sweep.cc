#include "storage/shared_sweep.h"

#include <algorithm>
#include <array>
#include <utility>

namespace terrace {

SharedSweep::SharedSweep(std::shared_ptr<SharedMedium> medium, const SweepOptions& options,
                         SharedLease lease, const Clock* clock)
    : medium_(std::move(medium)), options_(options), lease_(std::move(lease)), clock_(clock) {}

/// Renewed in time, long before it runs out; by our own clock it may have run out already.
Status SharedSweep::keep_lease() {
  const Nanos now = clock_->now();
  const bool first = lease_until_ == Nanos(0);
  if (!first && now >= lease_until_) {
    return error(StatusCode::kAborted, "the sweeper's lease ran out");
  }
  if (!first && lease_until_ - now > options_.lease * 2 / 3) return ok_status();
  TERRACE_RETURN_IF_ERROR(renew_lease(medium_.get(), lease_));
  lease_until_ = now + options_.lease;
  return ok_status();
}

Status SharedSweep::step() {
  step_until_ = clock_->now() + options_.step;
  TERRACE_RETURN_IF_ERROR(keep_lease());
  switch (phase_) {
    case Phase::namespaces:
      return list_namespaces();
    case Phase::folders:
      return list_folders();
    case Phase::look:
      return look();
    case Phase::judge:
      judge();
      return ok_status();
    case Phase::remove:
      return remove_some();
    case Phase::clean:
      return clean_one();
    case Phase::leases:
      return forget_some_leases();
    case Phase::over:
      return ok_status();
  }
  return ok_status();
}

Status SharedSweep::list_namespaces() {
  TERRACE_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                           medium_->list(kSharedObjects, kListMax));
  for (const std::string& name : names) {
    if (const auto digest = parse_shared_namespace(name)) namespaces_.push_back(*digest);
  }
  phase_ = Phase::folders;
  return ok_status();
}

Status SharedSweep::list_folders() {
  if (namespaces_.empty()) {
    phase_ = Phase::judge;
    return ok_status();
  }
  const std::string path = std::string(kSharedObjects) + "/" + namespaces_.back().hex();
  TERRACE_ASSIGN_OR_RETURN(const std::vector<std::string> names, medium_->list(path, kListMax));
  for (const std::string& name : names) {
    if (const auto folder = parse_shared_folder(name)) folders_.push_back(*folder);
  }
  phase_ = Phase::look;
  return ok_status();
}

Status SharedSweep::look() {
  for (size_t looks = 0; looks < kLooksPerStep && has_time(); ++looks) {
    if (leaves_.empty()) {
      if (folders_.empty()) {
        namespaces_.pop_back();
        phase_ = Phase::folders;
        return ok_status();
      }
      const std::string path = shared_folder_path(namespaces_.back(), folders_.back());
      TERRACE_ASSIGN_OR_RETURN(const std::vector<SharedMedium::Listed> listed,
                               medium_->list_facts(path, kListMax));
      for (const SharedMedium::Listed& each : listed) {
        if (const auto leaf = parse_shared_leaf(each.name)) leaves_.push_back({*leaf, each.facts});
      }
      folders_.pop_back();
      continue;
    }
    const Leaf found = leaves_.back();
    leaves_.pop_back();
    const SharedName name{namespaces_.back(), found.leaf.key, found.leaf.generation};
    const StatusOr<SharedMedium::Facts> facts =
        found.facts ? *found.facts : medium_->facts(shared_path(name));
    if (facts.status().code() == StatusCode::kNotFound) continue;
    if (!facts.ok()) return facts.status();
    result_.bytes += facts->bytes;
    result_.objects += 1;
    if (facts->age < options_.grace) continue;
    oldest_.push({facts->age, facts->bytes, name});
    if (oldest_.size() > kCandidatesMax) oldest_.pop();
  }
  return ok_status();
}

/// The oldest go until the rest is below the target.
void SharedSweep::judge() {
  phase_ = Phase::clean;
  const uint64_t target = options_.bytes_max / 1000 * kTargetPermille;
  if (result_.bytes <= options_.bytes_max) return;
  std::vector<Candidate> by_age;  // the youngest first
  for (; !oldest_.empty(); oldest_.pop()) by_age.push_back(oldest_.top());
  uint64_t left = result_.bytes;
  for (auto it = by_age.rbegin(); it != by_age.rend() && left > target; ++it) {
    left -= it->bytes;
    victims_.push_back(*it);
  }
  std::reverse(victims_.begin(), victims_.end());
  phase_ = Phase::remove;
}

Status SharedSweep::remove_some() {
  for (size_t moves = 0; moves < kMovesPerStep && has_time(); ++moves) {
    if (victims_.empty()) {
      phase_ = Phase::clean;
      return ok_status();
    }
    TERRACE_RETURN_IF_ERROR(keep_lease());
    const Candidate victim = victims_.back();
    victims_.pop_back();
    const std::string path = shared_path(victim.name);
    const auto facts = medium_->facts(path);
    // Gone, or used since it was judged.
    if (!facts.ok() || facts->age < victim.age) continue;
    const std::string trash = shared_aside_path(kSharedTrash, victim.name);
    if (!medium_->move(path, trash).ok()) continue;
    // The grace begins, with a copy by itself; without it the trash is emptied sooner.
    if (!medium_->copies()) (void)medium_->touch(trash);
    result_.swept_objects += 1;
    result_.swept_bytes += victim.bytes;
  }
  return ok_status();
}

/// A part of one of the folders that hold what is to go when it is old.
Status SharedSweep::clean_one() {
  struct Cleaned {
    const char* folder;
    Nanos kept;
    uint64_t* count;
  };
  const std::array<Cleaned, 3> all = {{
      {kSharedTrash, options_.grace, &result_.trash_emptied},
      {kSharedTemporaries, options_.grace, &result_.leftovers_removed},
      {kSharedQuarantine, options_.quarantine_kept, &result_.leftovers_removed},
  }};
  if (cleaning_ == all.size()) {
    phase_ = Phase::leases;
    return ok_status();
  }
  const Cleaned& now = all[cleaning_];
  if (!listed_) {
    TERRACE_ASSIGN_OR_RETURN(leftovers_, medium_->list_facts(now.folder, kListMax));
    listed_ = true;
  }
  for (size_t looks = 0; looks < kLooksPerStep && !leftovers_.empty() && has_time(); ++looks) {
    const SharedMedium::Listed found = std::move(leftovers_.back());
    leftovers_.pop_back();
    const std::string path = std::string(now.folder) + "/" + found.name;
    const StatusOr<SharedMedium::Facts> facts = found.facts ? *found.facts : medium_->facts(path);
    if (facts.ok() && facts->age >= now.kept && medium_->remove(path).ok()) ++*now.count;
  }
  if (leftovers_.empty()) {
    ++cleaning_;
    listed_ = false;
  }
  return ok_status();
}

Status SharedSweep::forget_some_leases() {
  if (!leases_listed_) {
    TERRACE_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                             medium_->list(kSharedLeases, kListMax));
    folders_.clear();
    for (const std::string& name : names) {
      if (const auto folder = parse_shared_folder(name)) folders_.push_back(*folder);
    }
    leases_listed_ = true;
  }
  for (size_t looks = 0; looks < kMovesPerStep && !folders_.empty() && has_time(); ++looks) {
    // Nobody holds one for so long without renewing it. What there is no time for is left to the
    // next pass.
    TERRACE_ASSIGN_OR_RETURN(
        const uint64_t gone,
        forget_leases(medium_.get(), folders_.back(), std::max(options_.grace, 4 * options_.lease),
                      [this] { return has_time(); }));
    result_.leftovers_removed += gone;
    folders_.pop_back();
  }
  if (folders_.empty()) phase_ = Phase::over;
  return ok_status();
}
}  // namespace terrace
