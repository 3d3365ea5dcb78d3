// Goal: the fields of a message are counted without parsing it, whatever else is in it.
// Method: real messages of ours, whole, cut at every byte, and of random bytes.
#include "proto/field_count.h"

#include <gtest/gtest.h>

#include "base/prng.h"
#include "proto/data.pb.h"

namespace terrace {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(FieldCountTest, counts_the_items_of_a_fetch) {
  proto::FetchRequest request;
  request.set_namespace_id(7);
  request.set_lease(~uint64_t{0});
  request.set_deadline_ms(1000);
  for (int i = 0; i < 300; ++i) request.add_items()->set_key(std::string(32, 'k'));
  const std::string body = request.SerializeAsString();
  EXPECT_EQ(count_fields(bytes_of(body), proto::FetchRequest::kItemsFieldNumber), 300u);
  EXPECT_EQ(count_fields(bytes_of(body), proto::FetchRequest::kLeaseFieldNumber), 1u);
  EXPECT_EQ(count_fields(bytes_of(body), 99), 0u);
  EXPECT_EQ(count_fields({}, 1), 0u);
}

TEST(FieldCountTest, empty_parts_count_too) {
  proto::MatchRequest request;
  for (int i = 0; i < 1000; ++i) request.add_groups();
  EXPECT_EQ(
      count_fields(bytes_of(request.SerializeAsString()), proto::MatchRequest::kGroupsFieldNumber),
      1000u);
}

TEST(FieldCountTest, nothing_hides_parts_from_the_count) {
  const std::string part("\x12\x00", 2);
  EXPECT_GT(count_fields(bytes_of("\x7b\x7c" + part + part), 2), 1'000'000u) << "behind a group";
  const std::string long_tag("\x92\x80\x80\x80\x10\x00", 6);
  proto::FetchRequest request;
  if (request.ParseFromString(long_tag)) {
    EXPECT_EQ(request.items_size(), 1);
  }
  EXPECT_EQ(count_fields(bytes_of(long_tag), 2), 1u) << "the same field in a longer tag";
}

TEST(FieldCountTest, a_message_cut_short_never_counts_more) {
  proto::FetchRequest request;
  for (int i = 0; i < 5; ++i) request.add_items()->set_key(std::string(32, 'k'));
  const std::string body = request.SerializeAsString();
  size_t last = 0;
  for (size_t bytes = 0; bytes <= body.size(); ++bytes) {
    const size_t count = count_fields(bytes_of(body.substr(0, bytes)), 2);
    EXPECT_GE(count, last);
    EXPECT_LE(count, 5u);
    last = count;
  }
  EXPECT_EQ(last, 5u);
}

TEST(FieldCountTest, whatever_parses_is_counted_whole) {
  for (uint64_t seed = 1; seed <= 20'000; ++seed) {
    Prng prng(seed);
    std::string body(prng.below(40), '\0');
    prng.fill(std::as_writable_bytes(std::span(body.data(), body.size())));
    proto::MatchRequest request;
    if (!request.ParseFromString(body)) continue;
    EXPECT_GE(count_fields(bytes_of(body), proto::MatchRequest::kGroupsFieldNumber),
              static_cast<size_t>(request.groups_size()))
        << "seed " << seed;
  }
}
}  // namespace
}  // namespace terrace
