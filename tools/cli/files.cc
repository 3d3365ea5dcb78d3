#include "tools/cli/files.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "base/handle.h"
#include "tools/cli/connection.h"
#include "tools/cli/content.h"

namespace terrace {
namespace {
constexpr uint64_t kSectionBytesMin = 64 * kKiB;
constexpr uint64_t kSectionBytesMax = kMiB;
constexpr uint64_t kSectionsWanted = 1024;
constexpr uint64_t kWindowBytes = 32 * kMiB;  // of one fetch
constexpr milliseconds kLease{30'000};

StatusOr<Fd> open_to_read(const std::string& path) {
  Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file && errno == ENOENT) return error(StatusCode::kNotFound, path + ": no such file");
  if (!file) return errno_status(errno, "open " + path);
  return file;
}

/// kDataLoss when the file is shorter than `into`.
Status read_exactly(int file, const std::string& path, std::span<std::byte> into) {
  while (!into.empty()) {
    const ssize_t n = ::read(file, into.data(), into.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_status(errno, "read " + path);
    if (n == 0) return error(StatusCode::kDataLoss, path + ": became shorter while it was read");
    into = into.subspan(static_cast<size_t>(n));
  }
  return ok_status();
}

/// The first bad thing of a completion with one item.
Status outcome_of(const Completion& completion) {
  if (!completion.status.ok()) return completion.status;
  if (!completion.key_codes.empty() && completion.key_codes[0] != StatusCode::kOk) {
    return completion.key_codes[0];
  }
  return ok_status();
}
}  // namespace

std::vector<SectionSpec> file_sections(uint64_t bytes) {
  uint64_t section = kSectionBytesMin;
  while (section < kSectionBytesMax && section * kSectionsWanted < bytes) section *= 2;
  std::vector<SectionSpec> sections;
  for (uint64_t at = 0; at < bytes; at += section) {
    SectionSpec spec;
    spec.kind = SectionKind::raw;
    spec.bytes = std::min(section, bytes - at);
    sections.push_back(spec);
  }
  return sections;
}

StatusOr<uint64_t> file_bytes(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return error(StatusCode::kNotFound, path + ": no such file");
    return errno_status(errno, "stat " + path);
  }
  if (!S_ISREG(info.st_mode)) {
    return error(StatusCode::kInvalidArgument, path + ": not a regular file");
  }
  return static_cast<uint64_t>(info.st_size);
}

StatusOr<FileMover> FileMover::open(const Globals& globals, const std::string& ns) {
  TERRACE_ASSIGN_OR_RETURN(std::unique_ptr<Client> client, connect(globals));
  TERRACE_ASSIGN_OR_RETURN(const NamespaceId id, open_existing(globals, client.get(), ns));
  return FileMover(globals, std::move(client), id);
}

Status FileMover::reserve(uint64_t bytes) {
  if (memory_.size() >= bytes) return ok_status();
  if (memory_.size() > 0) TERRACE_RETURN_IF_ERROR(client_->unregister_memory(region_));
  memory_ = AlignedBuffer();
  TERRACE_ASSIGN_OR_RETURN(memory_, AlignedBuffer::allocate(static_cast<size_t>(bytes)));
  TERRACE_ASSIGN_OR_RETURN(region_, client_->register_memory(memory_.span()));
  return ok_status();
}

StatusOr<KeyInfo> FileMover::find(const ChunkKey& key) {
  TERRACE_ASSIGN_OR_RETURN(const Completion done,
                           finish(client_.get(), client_->lookup(ns_, {&key, 1}, {}), globals_));
  TERRACE_RETURN_IF_ERROR(done.status);
  if (done.keys.size() != 1) return error(StatusCode::kInternal, "lookup: no answer for the key");
  if (done.keys[0].code != StatusCode::kOk) return done.keys[0].code;
  return done.keys[0];
}

Status FileMover::put(const std::string& path, const std::string& name, Durability durability,
                      const Retention& retention) {
  TERRACE_ASSIGN_OR_RETURN(const uint64_t bytes, file_bytes(path));
  if (bytes == 0 || bytes > kObjectBytesMax) {
    return error(StatusCode::kInvalidArgument, path + ": has " + std::to_string(bytes) +
                                                   " bytes; an object has 1 to " +
                                                   std::to_string(kObjectBytesMax));
  }
  TERRACE_ASSIGN_OR_RETURN(const Fd file, open_to_read(path));
  TERRACE_RETURN_IF_ERROR(reserve(bytes));
  const auto content = memory_.span().first(static_cast<size_t>(bytes));
  TERRACE_RETURN_IF_ERROR(read_exactly(file.get(), path, content));
  return store(bytes, name, durability, retention);
}

Status FileMover::put_content(uint64_t seed, uint64_t bytes, const std::string& name,
                              Durability durability, const Retention& retention) {
  TERRACE_RETURN_IF_ERROR(reserve(bytes));
  fill_content(seed, 0, memory_.span().first(static_cast<size_t>(bytes)));
  return store(bytes, name, durability, retention);
}

Status FileMover::store(uint64_t bytes, const std::string& name, Durability durability,
                        const Retention& retention) {
  TERRACE_ASSIGN_OR_RETURN(const ChunkKey key, key_for(*client_, ns_, name));
  const std::vector<SectionSpec> sections = file_sections(bytes);
  const Fragment whole{0, region_, 0, bytes};
  PutItem item;
  item.key = key;
  item.sections = sections;
  item.fragments = {&whole, 1};
  item.raw_key = name;
  item.retention = retention;
  PutOptions options;
  options.durability = durability;
  options.priority = Priority::store;
  TERRACE_ASSIGN_OR_RETURN(const Completion done,
                           finish(client_.get(), client_->put(ns_, {&item, 1}, options), globals_));
  return outcome_of(done);
}

Status FileMover::get(const ChunkKey& key, uint64_t bytes,
                      const std::function<Status(std::span<const std::byte>)>& take,
                      std::array<uint64_t, kTierCount>* tier_bytes) {
  TERRACE_RETURN_IF_ERROR(reserve(std::min(bytes, kWindowBytes)));
  LookupOptions lease_options;
  lease_options.lease = kLease;
  TERRACE_ASSIGN_OR_RETURN(
      const Completion found,
      finish(client_.get(), client_->lookup(ns_, {&key, 1}, lease_options), globals_));
  TERRACE_RETURN_IF_ERROR(found.status);
  Status status;
  for (uint64_t at = 0; at < bytes && status.ok();) {
    const uint64_t n = std::min(kWindowBytes, bytes - at);
    const Fragment fragment{at, region_, 0, n};
    const FetchItem item{key, {&fragment, 1}};
    FetchOptions options;
    options.lease = found.lease;
    auto done = finish(client_.get(), client_->fetch(ns_, {&item, 1}, options), globals_);
    status = done.ok() ? outcome_of(*done) : done.status();
    for (size_t t = 0; t < kTierCount && status.ok() && tier_bytes != nullptr; ++t) {
      (*tier_bytes)[t] += done->tier_bytes[t];
    }
    if (status.ok()) status = take(memory_.span().first(static_cast<size_t>(n)));
    at += n;
  }
  if (found.lease != kNoLease) client_->release(found.lease);
  return status;
}

Status FileMover::erase(const ChunkKey& key) {
  TERRACE_ASSIGN_OR_RETURN(const Completion done,
                           finish(client_.get(), client_->erase(ns_, {&key, 1}, {}), globals_));
  return outcome_of(done);
}

StatusOr<bool> FileMover::same_as_file(const ChunkKey& key, uint64_t bytes,
                                       const std::string& path) {
  TERRACE_ASSIGN_OR_RETURN(const uint64_t size, file_bytes(path));
  if (size != bytes) return false;
  TERRACE_ASSIGN_OR_RETURN(const Fd file, open_to_read(path));
  std::vector<std::byte> local;
  const Status compared = get(key, bytes, [&](std::span<const std::byte> window) -> Status {
    local.resize(window.size());
    TERRACE_RETURN_IF_ERROR(read_exactly(file.get(), path, local));
    if (std::memcmp(local.data(), window.data(), window.size()) == 0) return ok_status();
    return StatusCode::kAlreadyExists;  // told apart from every failure to read
  });
  if (compared.code() == StatusCode::kAlreadyExists) return false;
  TERRACE_RETURN_IF_ERROR(compared);
  return true;
}
}  // namespace terrace
