#include "storage/s3_metrics.h"

namespace terrace {

const char* name_of(S3Kind kind) {
  static constexpr const char* kNames[kS3Kinds] = {"get",    "head", "put",      "copy",
                                                   "delete", "list", "multipart"};
  return kNames[static_cast<size_t>(kind)];
}

const char* name_of(S3Outcome outcome) {
  static constexpr const char* kNames[kS3Outcomes] = {
      "ok", "not_found", "condition", "refused", "throttled", "failed", "silent", "broken"};
  return kNames[static_cast<size_t>(outcome)];
}
}  // namespace terrace
