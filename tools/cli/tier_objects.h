// tools/cli/tier_objects.h - the objects that an administrator names on the command line, as the
// calls of proto/tiers.proto want them. Blocking; single-threaded.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "base/chunk_key.h"
#include "base/status.h"
#include "proto/tiers.pb.h"
#include "tools/cli/command.h"

namespace terrace {

struct TierObjects {
  std::string tenant;
  std::string ns;
  std::vector<ChunkKey> keys;  // of the names, in their order

  /// Opens the namespace with a session, because a key depends on its fingerprint. Errors:
  /// connect()'s, open_existing()'s, key_for()'s.
  static StatusOr<TierObjects> name(const Globals& globals, const std::string& ns,
                                    const std::vector<std::string>& names);
  /// Keys [first, first + count).
  proto::ObjectsOf message(size_t first, size_t count) const;
};

/// What became of each key, over all nodes of --node: OK when one did it, else the first answer
/// that is not kNotFound. `call` asks one node about one batch. An error when a node cannot be
/// asked.
StatusOr<std::vector<Status>> on_owners(
    const Globals& globals, const TierObjects& objects,
    const std::function<StatusOr<proto::ObjectsReply>(const std::string& node,
                                                      const proto::ObjectsOf& batch)>& call);
/// Prints `done` or what went wrong of each, and returns the exit code.
int report_objects(const Globals& globals, const std::string& command,
                   const std::vector<std::string>& names, const std::vector<Status>& results,
                   const std::string& done);

/// "5f0c..." of bytes.
std::string hex_of(const std::string& bytes);
}  // namespace terrace
