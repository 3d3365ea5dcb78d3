// Goal: nothing that an S3 server says makes the parsers of its answers crash, loop or keep more
// than their bounds; what they accept is within what a listing may say. Method: every input goes
// through all of them, as XML, as a URL, as a credentials file.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "base/check.h"
#include "storage/s3_config.h"
#include "storage/s3_xml.h"

namespace {

const char* const kSeeds[] = {
    "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
    "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken><Contents>"
    "<Key>p%2Fk.1</Key><LastModified>2026-11-27T05:47:03.120Z</LastModified><Size>17</Size>"
    "</Contents><CommonPrefixes><Prefix>p/f/</Prefix></CommonPrefixes></ListBucketResult>",
    "<Error><Code>SlowDown</Code><Message>Please &quot;wait&quot;</Message></Error>",
    "<InitiateMultipartUploadResult><UploadId>2~abc</UploadId></InitiateMultipartUploadResult>",
    "<!DOCTYPE a [<!ENTITY b \"&c;&c;\"><!ENTITY c \"x\">]><a>&b;</a>",
    "https://s3.eu-central-1.amazonaws.com:443/bucket/prefix/more",
    "[default]\naws_access_key_id = AK\naws_secret_access_key = SK\n",
};
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace terrace;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto listing = parse_s3_listing(text);
  if (listing.ok()) {
    TERRACE_CHECK(!listing->truncated || !listing->next.empty());
    for (const S3Listing::Object& each : listing->objects) {
      TERRACE_CHECK(!each.key.empty() && each.key.size() <= text.size() && each.modified_ms >= 0);
    }
  }
  const S3Error said = parse_s3_error(text);
  for (const char c : said.code + said.message) TERRACE_CHECK(c >= ' ' && c <= '~');
  (void)parse_s3_field(text, "InitiateMultipartUploadResult", "UploadId");
  (void)parse_s3_time(text);
  const auto place = parse_s3_url(text);
  if (place.ok()) TERRACE_CHECK(!place->host.empty() && place->bucket.size() >= 3);
  const auto keys = parse_s3_credentials(text);
  if (keys.ok()) TERRACE_CHECK(!keys->access_key.empty() && !keys->secret_key.empty());
  return 0;
}

/// An answer of each shape, a URL, a credentials file.
extern "C" size_t TerraceFuzzSeed(size_t i, uint8_t* out, size_t out_max) {
  if (i >= std::size(kSeeds)) return 0;
  const size_t size = std::strlen(kSeeds[i]);
  TERRACE_CHECK(size <= out_max);
  std::memcpy(out, kSeeds[i], size);
  return size;
}
