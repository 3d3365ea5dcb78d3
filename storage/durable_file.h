// storage/durable_file.h - small files that a power cut leaves whole or as they were. Blocking; any
// thread.
#pragma once
#include <string>
#include <string_view>

#include "base/status.h"

namespace terrace {

/// Replaces `directory`/`name`: written beside, synced, renamed, and the directory synced.
Status write_durably(const std::string& directory, const std::string& name, std::string_view bytes);
/// All of a file of at most `bytes_max`. kNotFound; kDataLoss when it is longer.
StatusOr<std::string> read_whole(const std::string& path, size_t bytes_max);
/// Renames `path` to the first free "path.damaged.N", and returns that.
StatusOr<std::string> move_aside(const std::string& path);
}  // namespace terrace
