#include "storage/shared_lease.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/identity.h"
#include "storage/shared_names.h"

namespace terrace {
namespace {

constexpr std::string_view kTag = "terrace lease 1\n";
constexpr std::string_view kFree = ".free";
constexpr size_t kListMax = 65536;
constexpr int kTriesMax = 8;
constexpr size_t kFileBytes = kTag.size() + sizeof(uint64_t);
/// Of a lease whose holder died before it said how long. One that is merely slow lists once more
/// after it has written, and sees that it was too late.
constexpr Nanos kTtlUnknown = seconds(2);
constexpr uint64_t kTtlLongestMs = 3'600'000;  // whatever the file says

struct Found {
  uint64_t token = 0;
  bool free = false;
  std::string path;
};

std::string folder_of(const std::string& name) {
  return shared_lease_folder(shared_folder_of(sha256(name)));
}

std::string path_of(const SharedLease& lease) {
  return folder_of(lease.name) + "/" + lease.name + "." + shared_token(lease.token);
}

/// All tokens of the name, in no order.
StatusOr<std::vector<Found>> tokens_of(SharedMedium* medium, const std::string& name) {
  const std::string folder = folder_of(name);
  TERRACE_ASSIGN_OR_RETURN(const std::vector<std::string> entries, medium->list(folder, kListMax));
  std::vector<Found> found;
  for (const std::string& entry : entries) {
    std::string_view rest = entry;
    if (!rest.starts_with(name + ".")) continue;
    rest.remove_prefix(name.size() + 1);
    const bool free = rest.ends_with(kFree);
    if (free) rest.remove_suffix(kFree.size());
    const std::optional<uint64_t> token = parse_shared_token(rest);
    if (token) found.push_back({*token, free, folder + "/" + entry});
  }
  return found;
}

const Found* highest(const std::vector<Found>& found) {
  const auto it = std::max_element(
      found.begin(), found.end(), [](const Found& a, const Found& b) { return a.token < b.token; });
  return it == found.end() ? nullptr : &*it;
}

/// How long it is good without renewal, as its holder wrote.
StatusOr<Nanos> ttl_of(SharedMedium* medium, const std::string& path) {
  TERRACE_ASSIGN_OR_RETURN(const std::unique_ptr<SharedBytes> file, medium->open(path));
  if (file->size() != kFileBytes) return kTtlUnknown;
  std::array<char, kFileBytes> bytes{};
  TERRACE_RETURN_IF_ERROR(file->read(0, std::as_writable_bytes(std::span(bytes))));
  ByteReader in({bytes.data(), bytes.size()});
  if (in.raw(kTag.size()) != kTag) return kTtlUnknown;
  return Nanos(milliseconds(static_cast<int64_t>(std::min(in.u64(), kTtlLongestMs))));
}

StatusOr<bool> held(SharedMedium* medium, const Found& lease) {
  if (lease.free) return false;
  const StatusOr<Nanos> ttl = ttl_of(medium, lease.path);
  if (ttl.status().code() == StatusCode::kNotFound) return true;  // it changes just now
  if (!ttl.ok()) return ttl.status();
  const auto facts = medium->facts(lease.path);
  if (facts.status().code() == StatusCode::kNotFound) return true;
  if (!facts.ok()) return facts.status();
  return facts->age < *ttl;
}

Status busy(const std::string& name) {
  return error(StatusCode::kAborted, "lease " + name + ": another one has it");
}
}  // namespace

StatusOr<SharedLease> claim_lease(SharedMedium* medium, const std::string& name, Nanos ttl) {
  ByteWriter content;
  content.raw(kTag);
  const auto ttl_ms = std::chrono::duration_cast<milliseconds>(ttl).count();
  content.u64(static_cast<uint64_t>(std::max<int64_t>(1, ttl_ms)));
  const std::string bytes = content.take();
  for (int tries = 0; tries < kTriesMax; ++tries) {
    TERRACE_ASSIGN_OR_RETURN(const std::vector<Found> before, tokens_of(medium, name));
    const Found* const last = highest(before);
    if (last != nullptr) {
      TERRACE_ASSIGN_OR_RETURN(const bool taken, held(medium, *last));
      if (taken) return busy(name);
    }
    const SharedLease lease{name, last == nullptr ? 1 : last->token + 1};
    Status made = medium->create(path_of(lease), bytes);
    if (made.code() == StatusCode::kAlreadyExists) continue;  // look who it is
    TERRACE_RETURN_IF_ERROR(std::move(made));
    // The first listing may have been old: then this token was had, or a higher one is.
    TERRACE_ASSIGN_OR_RETURN(const std::vector<Found> after, tokens_of(medium, name));
    const bool late = std::any_of(after.begin(), after.end(), [&](const Found& other) {
      return other.token > lease.token || (other.token == lease.token && other.free);
    });
    if (late) {
      (void)medium->remove(path_of(lease));
      continue;
    }
    for (const Found& old : after) {
      if (old.token < lease.token) (void)medium->remove(old.path);
    }
    return lease;
  }
  return busy(name);
}

Status renew_lease(SharedMedium* medium, const SharedLease& lease) {
  Status touched = medium->touch(path_of(lease));
  if (touched.code() == StatusCode::kNotFound) return busy(lease.name);
  TERRACE_RETURN_IF_ERROR(std::move(touched));
  TERRACE_ASSIGN_OR_RETURN(const std::vector<Found> all, tokens_of(medium, lease.name));
  const Found* const last = highest(all);
  return last != nullptr && last->token > lease.token ? busy(lease.name) : ok_status();
}

void release_lease(SharedMedium* medium, const SharedLease& lease) {
  const std::string path = path_of(lease);
  (void)medium->move(path, path + std::string(kFree));  // else it runs out by itself
}

StatusOr<uint64_t> forget_leases(SharedMedium* medium, uint32_t folder, Nanos age,
                                 const std::function<bool()>& go_on) {
  const std::string path = shared_lease_folder(folder);
  TERRACE_ASSIGN_OR_RETURN(const std::vector<std::string> entries, medium->list(path, kListMax));
  uint64_t gone = 0;
  for (const std::string& entry : entries) {
    if (!go_on()) break;
    const auto facts = medium->facts(path + "/" + entry);
    if (facts.ok() && facts->age >= age && medium->remove(path + "/" + entry).ok()) ++gone;
  }
  return gone;
}
}  // namespace terrace
