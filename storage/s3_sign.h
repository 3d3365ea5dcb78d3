// storage/s3_sign.h - AWS Signature Version 4 of a request to S3, in its Authorization header. Pure
// functions; the figures of AWS's documentation are in s3_sign_test.cc.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace terrace {

/// Never in a log, a message or a metric.
struct S3Credentials {
  std::string access_key;
  std::string secret_key;
  std::string session_token;  // of temporary ones; else empty
};

using S3Fields = std::vector<std::pair<std::string, std::string>>;

/// What of a request is signed.
struct S3ToSign {
  std::string method;
  std::string path;     // as it is sent: encoded
  S3Fields query;       // not encoded, in any order
  S3Fields headers;     // names in lower case, in any order; `host` and `x-amz-date` are there
  std::string payload;  // SHA-256 of the body, 64 hex digits
};

/// All but letters, digits and -._~ as %XX, and '/' unless `keep_slashes`.
std::string s3_encode(std::string_view text, bool keep_slashes);
/// The query as it is sent, and as it is signed: encoded and sorted; empty for none.
std::string s3_query(const S3Fields& query);
/// The value of `x-amz-date`: 20130524T000000Z.
std::string s3_date(int64_t unix_seconds);
/// The value of `Authorization`. The time is the `x-amz-date` among the headers.
std::string s3_authorization(const S3ToSign& request, const S3Credentials& credentials,
                             const std::string& region);
}  // namespace terrace
