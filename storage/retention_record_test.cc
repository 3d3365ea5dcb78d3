// Goal: retention survives its bytes, and no bytes harm. Method: values through encode and decode,
// every cut of them, and random bytes.
#include "storage/retention_record.h"

#include <gtest/gtest.h>

#include "base/prng.h"

namespace terrace {
namespace {

Retention some() {
  Retention retention;
  retention.priority = RetentionPriority::high;
  retention.ttl = std::chrono::seconds(90);
  retention.pin = true;
  retention.type = "document";
  retention.turn = 7;
  retention.session = std::string(kRetentionSessionBytesMax, 's');
  return retention;
}

TEST(RetentionRecordTest, comes_back_as_it_was) {
  ASSERT_TRUE(some().validate().ok());
  const Kept kept = kept_of(some(), 1000);
  EXPECT_EQ(kept.expires_s, 1090u);
  const std::string bytes = encode_kept(kept);
  EXPECT_LE(bytes.size(), kRetentionRecordMax);
  size_t used = 0;
  const auto back = decode_kept(bytes + "what follows", &used);
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, kept);
  EXPECT_EQ(used, bytes.size());
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    EXPECT_FALSE(decode_kept(std::string_view(bytes).substr(0, cut), &used)) << cut;
  }
  EXPECT_TRUE(kept_of(Retention(), 1000).plain());
}

TEST(RetentionRecordTest, limits_are_named) {
  Retention bad = some();
  bad.type = std::string(kRetentionTypeBytesMax + 1, 't');
  EXPECT_NE(bad.validate().message().find("type"), std::string::npos);
  bad = some();
  bad.session = "\n";
  EXPECT_NE(bad.validate().message().find("session"), std::string::npos);
  bad = some();
  bad.ttl = kRetentionTtlMax + std::chrono::seconds(1);
  EXPECT_NE(bad.validate().message().find("ttl"), std::string::npos);
  bad = some();
  bad.priority = static_cast<RetentionPriority>(3);
  EXPECT_NE(bad.validate().message().find("priority"), std::string::npos);
}

TEST(RetentionRecordTest, random_bytes_are_refused_or_valid) {
  Prng prng(1);
  for (int i = 0; i < 200'000; ++i) {
    std::string bytes(prng.below(kRetentionRecordMax + 8), '\0');
    for (char& c : bytes)
      c = static_cast<char>(prng.below(4) == 0 ? prng.below(256) : prng.below(3));
    size_t used = 0;
    const auto kept = decode_kept(bytes, &used);
    if (!kept) continue;
    ASSERT_LE(used, bytes.size());
    ASSERT_EQ(encode_kept(*kept), bytes.substr(0, used));
  }
}
}  // namespace
}  // namespace terrace
