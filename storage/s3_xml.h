// storage/s3_xml.h - the answers of an S3 server: XML of a few shapes. Strict and bounded: no
// document type, no entities but XML's own five. Pure functions; whatever the input, no crash.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace terrace {

inline constexpr size_t kS3XmlBytesMax = size_t{4} << 20;

/// One page of ListObjectsV2 with encoding-type=url.
struct S3Listing {
  struct Object {
    std::string key;  // decoded
    uint64_t bytes = 0;
    int64_t modified_ms = 0;  // since 1970, by the server's clock
    bool operator==(const Object&) const = default;
  };
  std::vector<Object> objects;
  std::vector<std::string> prefixes;  // what lies deeper, up to the delimiter; decoded
  bool truncated = false;
  std::string next;  // continuation token, when truncated
};
/// kUnavailable: not such an answer; truncated without a token counts as that.
StatusOr<S3Listing> parse_s3_listing(std::string_view xml);

/// What <Error> says: printable, short. Empty when the text is none.
struct S3Error {
  std::string code;
  std::string message;
};
S3Error parse_s3_error(std::string_view xml);

/// The text of ROOT/NAME, such as InitiateMultipartUploadResult/UploadId. kUnavailable: the
/// document is another one, <Error> included, which may come with status 200.
StatusOr<std::string> parse_s3_field(std::string_view xml, std::string_view root,
                                     std::string_view name);
/// "2026-11-27T05:47:03.123Z" as milliseconds since 1970; -1: it is none.
int64_t parse_s3_time(std::string_view text);
}  // namespace terrace
