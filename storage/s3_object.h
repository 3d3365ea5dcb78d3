// storage/s3_object.h - one object of a bucket as its answers describe it, and its bytes. Not seen
// outside the room.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "storage/s3_client.h"
#include "storage/shared_medium.h"

namespace terrace {

/// Metadata that says which write an object comes from. Copies have their source's.
inline constexpr const char* kS3IdHeader = "x-amz-meta-terrace-id";

struct S3Head {
  uint64_t bytes = 0;
  Nanos age{0};
  std::string etag;  // as it came, with its quotes
  std::string id;    // empty: somebody else put it there
};
/// Of an answer to HEAD, or to a GET of a part of the object. kUnavailable: something is missing.
Status parse_s3_head(const HttpAnswer& answer, S3Head* out);
/// kUnavailable: it has none, so it does not speak of an object.
Status s3_has_etag(const HttpAnswer& answer);
/// A date among the headers, in seconds since 1970; -1: there is none.
int64_t s3_time_of(const HttpAnswer& answer, const std::string& header);

/// Opens with a GET of the first 64 KiB. Reads of more ask for exactly the object that was opened;
/// when that was touched or moved away and back, it is known by its id. `until`: by when a request
/// of so many bytes gives up. kNotFound, and S3Client::call's.
StatusOr<std::unique_ptr<SharedBytes>> open_s3_object(std::shared_ptr<S3Client> client,
                                                      const std::string& name,
                                                      std::function<Nanos(uint64_t)> until);
}  // namespace terrace
