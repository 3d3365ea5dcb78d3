// storage/s3_config.h - where a bucket is and who asks. Values.
#pragma once
#include <string>

#include "base/status.h"
#include "storage/s3_sign.h"

namespace terrace {

/// What a node may decide about the bucket of its shared tier. main() fills it.
struct S3Config {
  std::string url;  // http[s]://HOST[:PORT]/BUCKET[/PREFIX]; empty: no bucket
  std::string region = "us-east-1";
  bool path_style = true;        // false: https://BUCKET.HOST/, as AWS prefers it
  std::string credentials_file;  // as the AWS tools write it, profile [default]; empty: environment
  std::string ca_file;           // whom to trust besides the system's; empty: the system's
  S3Credentials environment;     // what AWS_ACCESS_KEY_ID and so on say; not an option

  bool used() const { return !url.empty(); }
  /// kInvalidArgument names the option, its value and what is wrong with it.
  Status validate() const;
};

/// The parts of S3Config::url.
struct S3Place {
  std::string scheme;  // http or https
  std::string host;    // with the port, if one is given
  std::string bucket;
  std::string prefix;  // of all keys: empty, or with a '/' at the end
};
/// kInvalidArgument.
StatusOr<S3Place> parse_s3_url(const std::string& url);
/// `environment`: as main() gets it, null-terminated "NAME=value". What has spaces is left out.
S3Credentials s3_environment(const char* const* environment);
/// The [default] profile of such a file's text. kInvalidArgument: no keys in it; the message names
/// the line at most, never what it says.
StatusOr<S3Credentials> parse_s3_credentials(const std::string& text);
}  // namespace terrace
