// Goal: what an operator writes about a bucket is understood or refused by name, and no secret is
// ever in a message. Method: tables.
#include "storage/s3_config.h"

#include <gtest/gtest.h>

namespace terrace {
namespace {

TEST(S3Config, Urls) {
  const auto place = parse_s3_url("https://s3.eu-central-1.amazonaws.com/my-bucket/kv/prod/");
  ASSERT_TRUE(place.ok()) << place.status().to_string();
  EXPECT_EQ(place->scheme, "https");
  EXPECT_EQ(place->host, "s3.eu-central-1.amazonaws.com");
  EXPECT_EQ(place->bucket, "my-bucket");
  EXPECT_EQ(place->prefix, "kv/prod/");
  const auto bare = parse_s3_url("http://127.0.0.1:9000/abc");
  ASSERT_TRUE(bare.ok());
  EXPECT_EQ(bare->host, "127.0.0.1:9000");
  EXPECT_EQ(bare->prefix, "");
  for (const char* bad :
       {"", "s3://bucket", "ftp://h/bucket", "http:///bucket", "http://h", "http://h/",
        "http://h/ab", "http://user:password@h/bucket", "http://h:0/bucket",
        "http://h:99999/bucket", "http://h/bucket/a//b", "http://h/bucket/../x",
        "http://h/bucket/a b", "http://h/buc?ket", "http://h\r\nx/bucket"}) {
    EXPECT_EQ(parse_s3_url(bad).status().code(), StatusCode::kInvalidArgument) << bad;
  }
}

TEST(S3Config, Options) {
  S3Config config;
  EXPECT_TRUE(config.validate().ok());
  config.ca_file = "/ca.pem";
  EXPECT_NE(config.validate().message().find("shared_s3"), std::string::npos);
  config.url = "https://h/buc.ket";
  EXPECT_TRUE(config.validate().ok());
  config.path_style = false;
  EXPECT_NE(config.validate().message().find("shared_s3_path_style"), std::string::npos);
  config.path_style = true;
  config.region = "x y";
  EXPECT_NE(config.validate().message().find("shared_s3_region"), std::string::npos);
}

TEST(S3Config, Credentials) {
  const auto read = parse_s3_credentials(
      "# a comment\n[other]\naws_access_key_id=NO\n\n[default]\naws_access_key_id = AK\r\n"
      "aws_secret_access_key = se/cr+et=\naws_session_token=t\nregion = x\n[more]\n"
      "aws_secret_access_key = no\n");
  ASSERT_TRUE(read.ok()) << read.status().to_string();
  EXPECT_EQ(read->access_key, "AK");
  EXPECT_EQ(read->secret_key, "se/cr+et=");
  EXPECT_EQ(read->session_token, "t");
  for (const char* bad : {"", "[default]\naws_access_key_id = AK\n", "aws_access_key_id HUSH",
                          "aws_access_key_id = HU\x01SH\n"}) {
    const Status status = parse_s3_credentials(bad).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message().find("HU"), std::string::npos);
  }
  const char* const environment[] = {"PATH=/", "AWS_ACCESS_KEY_ID=AK", "AWS_SECRET_ACCESS_KEY=S",
                                     "AWS_SESSION_TOKEN_NOT=x", nullptr};
  const S3Credentials from = s3_environment(environment);
  EXPECT_EQ(from.access_key, "AK");
  EXPECT_EQ(from.secret_key, "S");
  EXPECT_EQ(from.session_token, "");
}
}  // namespace
}  // namespace terrace
