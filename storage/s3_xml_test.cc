// Goal: answers of an S3 server are understood exactly or refused. Method: answers as servers send
// them, and what must not pass: cut ones, entities, other documents, odd numbers.
#include "storage/s3_xml.h"

#include <gtest/gtest.h>

namespace terrace {
namespace {

const std::string kPage =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
    "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>"
    "<IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b==</NextContinuationToken>"
    "<Contents><Key>p%2Fk.1</Key><LastModified>2026-11-27T05:47:03.120Z</LastModified>"
    "<ETag>&quot;9b2cf&quot;</ETag><Size>17</Size><Owner><ID>x</ID></Owner></Contents>"
    "<CommonPrefixes><Prefix>p/f/</Prefix></CommonPrefixes></ListBucketResult>";

TEST(S3Xml, Listing) {
  const auto page = parse_s3_listing(kPage);
  ASSERT_TRUE(page.ok()) << page.status().to_string();
  ASSERT_EQ(page->objects.size(), 1u);
  EXPECT_EQ(page->objects[0].key, "p/k.1");
  EXPECT_EQ(page->objects[0].bytes, 17u);
  EXPECT_EQ(page->objects[0].modified_ms, 1795758423120);
  EXPECT_EQ(page->prefixes, std::vector<std::string>{"p/f/"});
  EXPECT_TRUE(page->truncated);
  EXPECT_EQ(page->next, "a&b==");
}

TEST(S3Xml, WhatIsNoListing) {
  for (size_t length = 0; length + 1 < kPage.size(); length += 7) {
    EXPECT_FALSE(parse_s3_listing(kPage.substr(0, length)).ok()) << length;
  }
  const auto with = [](const std::string& from, const std::string& to) {
    std::string page = kPage;
    page.replace(page.find(from), from.size(), to);
    return page;
  };
  for (const std::string& bad :
       {with(">17<", ">-17<"), with(">17<", ">99999999999999999999<"), with("<Size>17</Size>", ""),
        with("2026-11", "2026-13"), with("p%2Fk", "p%2"), with("p%2Fk", "p%zzk"),
        with("a&amp;b==", ""), with("<Name>b</Name>", "<Name>&x;</Name>"), std::string("<a/>"),
        std::string("<Error><Code>SlowDown</Code></Error>"), std::string("not xml"),
        std::string("<!DOCTYPE x [<!ENTITY a \"b\">]>") +
            kPage.substr(kPage.find("<ListBucketResult"))}) {
    EXPECT_EQ(parse_s3_listing(bad).status().code(), StatusCode::kUnavailable) << bad;
  }
}

TEST(S3Xml, BoundsHold) {
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += "<a>";
  EXPECT_FALSE(parse_s3_listing(deep).ok());
  std::string many = "<ListBucketResult>";
  for (int i = 0; i < 40'000; ++i) many += "<a/>";
  EXPECT_FALSE(parse_s3_listing(many + "</ListBucketResult>").ok());
  const std::string text(5000, 'x');
  EXPECT_FALSE(parse_s3_listing("<ListBucketResult>" + text + "</ListBucketResult>").ok());
  EXPECT_FALSE(parse_s3_listing(std::string(kS3XmlBytesMax + 1, ' ')).ok());
}

TEST(S3Xml, Errors) {
  const S3Error said = parse_s3_error(
      "<Error><Code>SlowDown</Code><Message>a \"b\"\n</Message><Resource>/x</Resource></Error>");
  EXPECT_EQ(said.code, "SlowDown");
  EXPECT_EQ(said.message, "a ?b??");
  EXPECT_EQ(parse_s3_error("<html>502</html>").code, "");
  EXPECT_EQ(*parse_s3_field("<A xmlns=\"u\"><B>x</B></A>", "A", "B"), "x");
  EXPECT_FALSE(parse_s3_field("<A><B/></A>", "A", "B").ok());
  const Status refused =
      parse_s3_field("<Error><Code>InternalError</Code></Error>", "A", "B").status();
  EXPECT_NE(refused.message().find("InternalError"), std::string::npos);
}

TEST(S3Xml, Times) {
  EXPECT_EQ(parse_s3_time("1970-01-02T00:00:01Z"), 86'401'000);
  EXPECT_EQ(parse_s3_time("1970-01-01T00:00:00.5Z"), 500);
  for (const char* bad :
       {"", "Z", "1970-01-01T00:00:00", "1970-02-30T00:00:00Z", "1970-01-01T24:00:00Z",
        "1970-01-01 00:00:00Z", "1970-01-01T00:00:00.Z", "1970-01-01T00:00:00.1234567890Z"}) {
    EXPECT_EQ(parse_s3_time(bad), -1) << bad;
  }
}
}  // namespace
}  // namespace terrace
