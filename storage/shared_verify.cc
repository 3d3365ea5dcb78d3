#include "storage/shared_verify.h"

#include <utility>

#include "base/log.h"

namespace terrace {

SharedVerify::SharedVerify(std::shared_ptr<SharedMedium> medium, const SharedVerifyOptions& options,
                           const Clock* clock)
    : medium_(std::move(medium)), options_(options), clock_(clock) {}

Status SharedVerify::step(uint64_t bytes_max) {
  step_ = {};
  if (!abandoned_) until_ = clock_->now() + options_.step;
  Status result;
  while (result.ok() && !over() && !step_.damaged && step_.bytes < bytes_max && has_time()) {
    result = advance(bytes_max - step_.bytes);
  }
  if (abandoned_) close();
  return result;
}

Status SharedVerify::advance(uint64_t bytes_max) {
  if (!listed_) return list_namespaces();
  if (check_) return check_some(bytes_max);
  if (!copies_.empty()) {
    const SharedLeaf next = copies_.back();
    copies_.pop_back();
    check_.emplace(medium_.get(), SharedName{namespaces_.back(), next.key, next.generation});
    return ok_status();
  }
  if (!folders_listed_) return list_folders();
  if (!folders_.empty()) return list_copies();
  folders_listed_ = false;
  namespaces_.pop_back();
  if (namespaces_.empty()) look_at_medium();
  return ok_status();
}

/// At the end: where a file system is not mounted any more, nothing lies, and nothing is damaged.
void SharedVerify::look_at_medium() {
  if (read_last_) return;
  if (const Status there = medium_->probe(); !there.ok()) note(there);
}

void SharedVerify::note(const Status& why) {
  if (incomplete_.ok()) incomplete_ = why;
}

/// One file may lie on a bad sector or be another user's; when nothing can be read any more, going
/// on would only count.
Status SharedVerify::unreadable(const Status& why) {
  ++step_.skipped;
  note(why);
  const bool silent = why.code() == StatusCode::kDeadlineExceeded;
  return silent || ++unreadable_in_a_row_ >= kUnreadableInARowMax ? why : ok_status();
}

StatusOr<std::vector<std::string>> SharedVerify::list(const std::string& folder, size_t names_max) {
  TERRACE_ASSIGN_OR_RETURN(std::vector<std::string> names, medium_->list(folder, names_max));
  if (names.size() >= names_max) {
    note(error(StatusCode::kResourceExhausted, folder + " has " + std::to_string(names_max) +
                                                   " names or more: only that many were looked "
                                                   "at"));
  }
  return names;
}

Status SharedVerify::list_namespaces() {
  TERRACE_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                           list(kSharedObjects, options_.names_max));
  for (const std::string& name : names) {
    const std::optional<NamespaceDigest> digest = parse_shared_namespace(name);
    if (digest) namespaces_.push_back(*digest);
    if (!digest) ++step_.skipped;
  }
  listed_ = true;
  if (namespaces_.empty()) look_at_medium();
  return ok_status();
}

Status SharedVerify::list_folders() {
  folders_listed_ = true;
  const std::string path = std::string(kSharedObjects) + "/" + namespaces_.back().hex();
  const auto names = list(path, options_.names_max);
  if (!names.ok()) return unreadable(names.status());
  for (const std::string& name : *names) {
    const std::optional<uint32_t> folder = parse_shared_folder(name);
    if (folder) folders_.push_back(*folder);
    if (!folder) ++step_.skipped;
  }
  return ok_status();
}

Status SharedVerify::list_copies() {
  const uint32_t folder = folders_.back();
  folders_.pop_back();
  const auto names = list(shared_folder_path(namespaces_.back(), folder), options_.names_max);
  if (!names.ok()) return unreadable(names.status());
  for (const std::string& name : *names) {
    const std::optional<SharedLeaf> leaf = parse_shared_leaf(name);
    // Where nobody looks for it, it is not one of ours either.
    const bool ours = leaf && shared_folder_of(leaf->key) == folder;
    if (ours) copies_.push_back(*leaf);
    if (!ours) ++step_.skipped;
  }
  return ok_status();
}

Status SharedVerify::check_some(uint64_t bytes_max) {
  const Status read = check_->step(bytes_max, &step_.bytes);
  read_last_ = read.ok();
  if (read.ok()) {
    unreadable_in_a_row_ = 0;
    if (!check_->over()) return ok_status();
    ++step_.objects;
    close();
    return ok_status();
  }
  const SharedName name = check_->name();
  close();
  switch (read.code()) {
    case StatusCode::kDataLoss:
      spdlog::warn("event=shared_verify copy={} error=\"{}\"", shared_path(name), read.message());
      ++step_.objects;
      step_.damaged = name;
      return ok_status();
    case StatusCode::kNotFound:
      return ok_status();
    case StatusCode::kFailedPrecondition:
      ++step_.skipped;
      return ok_status();
    default:
      return unreadable(read);
  }
}
}  // namespace terrace
