// What takes the place of the bucket in a build without libcurl or expat.
#include "storage/s3_medium.h"

namespace terrace {

StatusOr<std::shared_ptr<SharedMedium>> open_s3_medium(const S3Options&, const Clock*) {
  return error(StatusCode::kFailedPrecondition,
               "shared_s3: this build has no S3: it was made without libcurl4-openssl-dev or "
               "libexpat1-dev");
}
}  // namespace terrace
