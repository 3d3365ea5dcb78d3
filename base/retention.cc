#include "base/retention.h"

#include <algorithm>

namespace terrace {
namespace {

Status check_text(const char* field, const std::string& text, size_t bytes_max) {
  if (text.size() > bytes_max) {
    return error(StatusCode::kInvalidArgument, std::string("retention: ") + field + " of " +
                                                   std::to_string(text.size()) +
                                                   " bytes; at most " + std::to_string(bytes_max));
  }
  const bool printable =
      std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
  if (printable) return ok_status();
  return error(StatusCode::kInvalidArgument,
               std::string("retention: ") + field + " is not printable ASCII");
}
}  // namespace

const char* name_of(RetentionPriority priority) {
  switch (priority) {
    case RetentionPriority::low:
      return "low";
    case RetentionPriority::high:
      return "high";
    case RetentionPriority::normal:
      break;
  }
  return "normal";
}

Status Retention::validate() const {
  if (priority > RetentionPriority::high) {
    return error(StatusCode::kInvalidArgument, "retention: priority " +
                                                   std::to_string(static_cast<unsigned>(priority)) +
                                                   "; 0 (normal), 1 (low) or 2 (high)");
  }
  if (ttl.count() < 0 || ttl > kRetentionTtlMax) {
    return error(StatusCode::kInvalidArgument, "retention: ttl of " + std::to_string(ttl.count()) +
                                                   " s; 0 (none) to " +
                                                   std::to_string(kRetentionTtlMax.count()));
  }
  TERRACE_RETURN_IF_ERROR(check_text("type", type, kRetentionTypeBytesMax));
  return check_text("session", session, kRetentionSessionBytesMax);
}
}  // namespace terrace
