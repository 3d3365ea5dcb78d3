// Goal: signatures are AWS's. Method: the requests of its documentation ("Authenticating Requests:
// Using the Authorization Header") with the figures printed there.
#include "storage/s3_sign.h"

#include <gtest/gtest.h>

#include "base/digest.h"
#include "base/identity.h"

namespace terrace {
namespace {

const S3Credentials kExample = {"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                                ""};

S3ToSign example(const std::string& method, const std::string& path, const std::string& body) {
  S3ToSign out;
  out.method = method;
  out.path = path;
  out.payload = sha256(body).hex();
  out.headers = {{"x-amz-date", s3_date(1369353600)},
                 {"host", "examplebucket.s3.amazonaws.com"},
                 {"x-amz-content-sha256", out.payload}};
  return out;
}

std::string signature(const S3ToSign& request) {
  const std::string all = s3_authorization(request, kExample, "us-east-1");
  return all.substr(all.rfind('=') + 1);
}

TEST(S3Sign, GetObject) {
  S3ToSign get = example("GET", "/test.txt", "");
  get.headers.emplace_back("range", "bytes=0-9");
  EXPECT_EQ(s3_authorization(get, kExample, "us-east-1"),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
            "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
            "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

TEST(S3Sign, PutObject) {
  S3ToSign put = example("PUT", "/" + s3_encode("test$file.text", true), "Welcome to Amazon S3.");
  put.headers.emplace_back("date", "Fri, 24 May 2013 00:00:00 GMT");
  put.headers.emplace_back("x-amz-storage-class", "REDUCED_REDUNDANCY");
  EXPECT_EQ(signature(put), "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

TEST(S3Sign, Queries) {
  S3ToSign lifecycle = example("GET", "/", "");
  lifecycle.query = {{"lifecycle", ""}};
  EXPECT_EQ(signature(lifecycle),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
  S3ToSign list = example("GET", "/", "");
  list.query = {{"prefix", "J"}, {"max-keys", "2"}};
  EXPECT_EQ(signature(list), "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

TEST(S3Sign, Encoding) {
  EXPECT_EQ(s3_encode("a/b c+~\xc3\xa9", true), "a/b%20c%2B~%C3%A9");
  EXPECT_EQ(s3_encode("a/b", false), "a%2Fb");
  EXPECT_EQ(s3_query({{"b", "/"}, {"a", ""}}), "a=&b=%2F");
  EXPECT_EQ(s3_date(951782400 + 3661), "20000229T010101Z");
}

TEST(S3Sign, HmacOfRfc4231) {
  std::string hex;
  for (const char c : hmac_sha256("Jefe", "what do ya want for nothing?")) {
    char text[3];
    std::snprintf(text, sizeof(text), "%02x", static_cast<unsigned char>(c));
    hex += text;
  }
  EXPECT_EQ(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}
}  // namespace
}  // namespace terrace
