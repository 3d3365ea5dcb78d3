#include "tests/sim/sim_files.h"

#include <algorithm>
#include <utility>

namespace terrace::sim {
namespace {
constexpr size_t kSector = 4096;
Status missing(const std::string& name) {
  return error(StatusCode::kNotFound, name);
}
}  // namespace

std::string SimFiles::clean(const std::string& name) {
  std::string out;
  for (const char c : name) {
    if (c != '/' || out.empty() || out.back() != '/') out += c;
  }
  if (out.size() > 1 && out.back() == '/') out.pop_back();
  return out;
}

void SimFiles::apply(Names* names, const NameChange& change) {
  if (change.file == nullptr) {
    names->erase(change.name);
  } else {
    (*names)[change.name] = change.file;
  }
}

/// Every change goes through here first: power, then injected failures.
Status SimFiles::step() {
  if (!disk_->step()) return error(StatusCode::kUnavailable, "the power is off");
  const uint64_t number = changes_++;
  if (!failure_ || number < failure_->at) return ok_status();
  const Status failed = failure_->error;
  if (!failure_->persistent) failure_.reset();
  return failed;
}

Status SimFiles::usable(const Open& open) const {
  if (open.life == life_) return ok_status();
  return error(StatusCode::kUnavailable, "opened before the power cut");
}

void SimFiles::note(NameChange change) {
  apply(&names_, change);
  unsynced_names_.push_back(std::move(change));
}

StatusOr<SimFiles::Open> SimFiles::create(const std::string& name, bool keep) {
  const std::lock_guard lock(mutex_);
  TERRACE_RETURN_IF_ERROR(step());
  const std::string path = clean(name);
  const auto it = names_.find(path);
  if (keep && it != names_.end()) return Open{it->second, life_};
  auto file = std::make_shared<File>();
  note({path, file, false});
  return Open{file, life_};
}

StatusOr<SimFiles::Open> SimFiles::open(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto it = names_.find(clean(name));
  if (it == names_.end()) return missing(name);
  return Open{it->second, life_};
}

Status SimFiles::append(const Open& open, std::string_view bytes) {
  const std::lock_guard lock(mutex_);
  TERRACE_RETURN_IF_ERROR(usable(open));
  TERRACE_RETURN_IF_ERROR(step());
  open.file->data.append(bytes);
  return ok_status();
}

Status SimFiles::truncate(const Open& open, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  TERRACE_RETURN_IF_ERROR(usable(open));
  TERRACE_RETURN_IF_ERROR(step());
  open.file->data.resize(static_cast<size_t>(bytes));
  open.file->synced = std::min(open.file->synced, open.file->data.size());
  return ok_status();
}

Status SimFiles::sync(const Open& open) {
  const std::lock_guard lock(mutex_);
  TERRACE_RETURN_IF_ERROR(usable(open));
  TERRACE_RETURN_IF_ERROR(step());
  ++syncs_;
  if (honest_) open.file->synced = open.file->data.size();
  return ok_status();
}

StatusOr<std::string> SimFiles::read(const Open& open, uint64_t offset, size_t bytes) const {
  const std::lock_guard lock(mutex_);
  TERRACE_RETURN_IF_ERROR(usable(open));
  if (!disk_->powered()) return error(StatusCode::kUnavailable, "the power is off");
  const std::string& data = open.file->data;
  if (offset >= data.size()) return std::string();
  return data.substr(static_cast<size_t>(offset), bytes);
}

uint64_t SimFiles::size(const Open& open) const {
  const std::lock_guard lock(mutex_);
  return open.file->data.size();
}

Status SimFiles::remove(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const std::string path = clean(name);
  if (!names_.contains(path)) return missing(name);
  TERRACE_RETURN_IF_ERROR(step());
  note({path, nullptr, false});
  return ok_status();
}

Status SimFiles::rename(const std::string& from, const std::string& to) {
  const std::lock_guard lock(mutex_);
  const auto it = names_.find(clean(from));
  if (it == names_.end()) return missing(from);
  TERRACE_RETURN_IF_ERROR(step());
  const std::shared_ptr<File> file = it->second;
  note({clean(to), file, true});
  note({clean(from), nullptr, false});
  return ok_status();
}

Status SimFiles::link(const std::string& from, const std::string& to) {
  const std::lock_guard lock(mutex_);
  const auto it = names_.find(clean(from));
  if (it == names_.end()) return missing(from);
  TERRACE_RETURN_IF_ERROR(step());
  const std::shared_ptr<File> file = it->second;
  note({clean(to), file, false});
  return ok_status();
}

Status SimFiles::make_directory(const std::string& name) {
  const std::lock_guard lock(mutex_);
  TERRACE_RETURN_IF_ERROR(step());
  directories_.insert(clean(name));
  return ok_status();
}

Status SimFiles::sync_directories() {
  const std::lock_guard lock(mutex_);
  TERRACE_RETURN_IF_ERROR(step());
  ++syncs_;
  if (!honest_) return ok_status();
  for (const NameChange& change : unsynced_names_) apply(&durable_names_, change);
  unsynced_names_.clear();
  return ok_status();
}

bool SimFiles::exists(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  return names_.contains(clean(name)) || directories_.contains(clean(name));
}

bool SimFiles::is_directory(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  return directories_.contains(clean(name));
}

std::vector<std::string> SimFiles::children(const std::string& directory) const {
  const std::lock_guard lock(mutex_);
  const std::string prefix = clean(directory) + "/";
  std::vector<std::string> out;
  const auto add = [&](const std::string& path) {
    if (!path.starts_with(prefix)) return;
    const std::string rest = path.substr(prefix.size());
    if (!rest.empty() && rest.find('/') == std::string::npos) out.push_back(rest);
  };
  for (const auto& [path, file] : names_) add(path);
  for (const std::string& path : directories_) add(path);
  return out;
}

Status SimFiles::lock(const std::string& name) {
  const std::lock_guard lock(mutex_);
  if (!disk_->powered()) return error(StatusCode::kUnavailable, "the power is off");
  if (!locks_.insert(clean(name)).second) {
    return error(StatusCode::kUnavailable, "locked: " + name);
  }
  return ok_status();
}

void SimFiles::unlock(const std::string& name) {
  const std::lock_guard lock(mutex_);
  locks_.erase(clean(name));
}

void SimFiles::restart() {
  const std::lock_guard lock(mutex_);
  ++life_;
  locks_.clear();
  failure_.reset();
  size_t kept = unsynced_names_.empty() ? 0 : disk_->below(unsynced_names_.size() + 1);
  while (kept > 0 && kept < unsynced_names_.size() && unsynced_names_[kept - 1].with_next) ++kept;
  for (size_t i = 0; i < kept; ++i) apply(&durable_names_, unsynced_names_[i]);
  unsynced_names_.clear();
  // Copies: the old life's objects may still look at theirs.
  std::map<File*, std::shared_ptr<File>> copies;
  for (auto& [name, file] : durable_names_) {
    std::shared_ptr<File>& copy = copies[file.get()];
    if (copy == nullptr) {
      copy = std::make_shared<File>(*file);
      survive(copy.get(), name.ends_with(".log"));
    }
    file = copy;
  }
  names_ = durable_names_;
}

/// What was synced, some of what follows, and with `garbage` perhaps that where its end is.
void SimFiles::survive(File* file, bool garbage) {
  const size_t tail = file->data.size() - file->synced;
  if (tail > 0) {
    const size_t kept = static_cast<size_t>(disk_->below(tail + 1));
    file->data.resize(file->synced + kept);
    if (garbage && kept > 0 && disk_->below(2) == 0) {
      const size_t torn = 1 + static_cast<size_t>(disk_->below(std::min(kept, kSector)));
      const std::span<char> end(file->data.data() + file->data.size() - torn, torn);
      disk_->garble(std::as_writable_bytes(end));
    }
  }
  file->synced = file->data.size();
}

void SimFiles::fail(uint64_t skip, Status error, bool persistent) {
  const std::lock_guard lock(mutex_);
  failure_ = Failure{changes_ + skip, std::move(error), persistent};
}

void SimFiles::heal() {
  const std::lock_guard lock(mutex_);
  failure_.reset();
}

void SimFiles::keep_promises(bool keep) {
  const std::lock_guard lock(mutex_);
  honest_ = keep;
}

uint64_t SimFiles::syncs() const {
  const std::lock_guard lock(mutex_);
  return syncs_;
}

uint64_t SimFiles::bytes_stored() const {
  const std::lock_guard lock(mutex_);
  uint64_t bytes = 0;
  for (const auto& [name, file] : names_) bytes += file->data.size();
  return bytes;
}
}  // namespace terrace::sim
