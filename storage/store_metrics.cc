#include "storage/store_metrics.h"

namespace terrace {

const char* name_of(NotTaken why) {
  static constexpr std::array<const char*, kNotTakenReasons> kNames = {
      "file",  "format",  "foreign", "geometry", "twice", "tenant",
      "empty", "extents", "header",  "stale",    "limit"};
  return kNames[static_cast<size_t>(why)];
}
}  // namespace terrace
