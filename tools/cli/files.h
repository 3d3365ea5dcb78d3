// tools/cli/files.h - files as raw objects: how they are cut into sections, and how they are
// stored, fetched and compared through a client. Blocking; single-threaded.
#pragma once
#include <array>
#include <functional>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "client/terrace.h"
#include "tools/cli/command.h"

namespace terrace {

/// The section table of a file of `bytes` (1 to kObjectBytesMax): equal sections of 64 KiB to 1
/// MiB, the least of these sizes that makes at most 1024 of them; the last one takes the rest.
std::vector<SectionSpec> file_sections(uint64_t bytes);

/// Called with the bytes done so far.
using OnBytes = std::function<void(uint64_t done)>;

/// A session, a namespace and memory to move files through.
class FileMover {
 public:
  /// As connect() and open_existing().
  static StatusOr<FileMover> open(const Globals& globals, const std::string& ns);

  /// What is known of `key`. kNotFound: not there.
  StatusOr<KeyInfo> find(const ChunkKey& key);
  /// Stores `bytes` of the file at `path` under `name`. kInvalidArgument: an empty file, or one
  /// over kObjectBytesMax.
  Status put(const std::string& path, const std::string& name, Durability durability,
             const Retention& retention = {});
  /// The same of `bytes` bytes that follow from `seed` (tools/cli/content.h).
  Status put_content(uint64_t seed, uint64_t bytes, const std::string& name, Durability durability,
                     const Retention& retention);
  /// Fetches the whole object in windows and hands each verified window, in order, to `take`.
  /// Adds to `tier_bytes` where they came from.
  /// kNotFound; kDataLoss: bytes failed their checksum; what `take` returns ends it early.
  Status get(const ChunkKey& key, uint64_t bytes,
             const std::function<Status(std::span<const std::byte>)>& take,
             std::array<uint64_t, kTierCount>* tier_bytes = nullptr);
  Status erase(const ChunkKey& key);
  /// Whether the object holds exactly the bytes of the file.
  StatusOr<bool> same_as_file(const ChunkKey& key, uint64_t bytes, const std::string& path);

  Client& client() { return *client_; }
  NamespaceId ns() const { return ns_; }
  const Globals& globals() const { return globals_; }

 private:
  FileMover(Globals globals, std::unique_ptr<Client> client, NamespaceId ns)
      : globals_(std::move(globals)), client_(std::move(client)), ns_(ns) {}
  /// What lies in memory_.
  Status store(uint64_t bytes, const std::string& name, Durability durability,
               const Retention& retention);
  /// Makes memory_ at least `bytes` long and registered.
  Status reserve(uint64_t bytes);

  Globals globals_;
  AlignedBuffer memory_;  // outlives the client, which borrows it
  std::unique_ptr<Client> client_;
  NamespaceId ns_{};
  RegionId region_{};
};

/// The size of a regular file. kNotFound, kInvalidArgument (a directory or such).
StatusOr<uint64_t> file_bytes(const std::string& path);
}  // namespace terrace
