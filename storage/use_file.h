// storage/use_file.h - what a policy learned of uses, as a small file in the data directory
// (docs/formats.md 3.8). Losing it costs guesses, no data. Blocking; any thread.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "storage/policy/use_memory.h"

namespace terrace {

inline constexpr const char* kUseFile = "USES";

struct UseFile {
  int64_t taken_s = 0;  // when `memory` was taken down, by the wall clock, since 1970
  UseMemory memory;
  bool operator==(const UseFile&) const = default;
};
std::string encode_uses(const UseFile& file);
/// kDataLoss: not what encode_uses() writes. kFailedPrecondition: a later build wrote it.
StatusOr<UseFile> decode_uses(std::string_view bytes);
/// Replaced whole.
Status write_uses(const std::string& directory, const UseFile& file);
/// kNotFound: there is none; else decode_uses()'s errors, or the file system's.
StatusOr<UseFile> read_uses(const std::string& directory);
}  // namespace terrace
