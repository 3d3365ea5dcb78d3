// Goal: what storage/shared_medium.h promises holds for every implementation. Method: each is made
// twice over one place, as two nodes would have it; what one does the other must see.
#include "tests/contract/shared_medium_contract.h"

#include <array>
#include <atomic>
#include <cstring>
#include <set>
#include <thread>

#include "base/limits.h"
#include "base/prng.h"

namespace terrace {
namespace {

std::string random_bytes(size_t count, uint64_t seed) {
  std::string bytes(count, '\0');
  Prng(seed).fill(std::as_writable_bytes(std::span(bytes.data(), bytes.size())));
  return bytes;
}
}  // namespace

void SharedMediumContract::SetUp() {
  place_ = GetParam()();
  if (place_ == nullptr) GTEST_SKIP() << "no place for it here";
  one_ = place_->medium();
  other_ = place_->medium();
}

Status SharedMediumContract::publish(SharedMedium* medium, const std::string& name,
                                     std::string bytes) {
  // In two pieces, and an empty one.
  const size_t half = bytes.size() / 2;
  const std::vector<iovec> pieces = {
      {bytes.data(), half}, {bytes.data(), 0}, {bytes.data() + half, bytes.size() - half}};
  return medium->publish(name, pieces);
}

StatusOr<std::string> SharedMediumContract::read(SharedMedium* medium, const std::string& name) {
  TERRACE_ASSIGN_OR_RETURN(const std::unique_ptr<SharedBytes> file, medium->open(name));
  std::string bytes(file->size(), '\0');
  TERRACE_RETURN_IF_ERROR(
      file->read(0, std::as_writable_bytes(std::span(bytes.data(), bytes.size()))));
  return bytes;
}

TEST_P(SharedMediumContract, what_one_publishes_the_other_reads) {
  EXPECT_EQ(one_->check(), ok_status());
  EXPECT_EQ(one_->probe(), ok_status());
  const std::string bytes = random_bytes(place_->large() + 17, 1);
  ASSERT_TRUE(publish(one_.get(), "objects/a/b/c.1", bytes).ok());
  const StatusOr<std::string> back = read(other_.get(), "objects/a/b/c.1");
  ASSERT_TRUE(back.ok()) << back.status().to_string();
  EXPECT_TRUE(*back == bytes);
  const auto facts = other_->facts("objects/a/b/c.1");
  ASSERT_TRUE(facts.ok());
  EXPECT_EQ(facts->bytes, bytes.size());
  EXPECT_LT(facts->age, seconds(30));
}

TEST_P(SharedMediumContract, ranges_and_their_ends) {
  ASSERT_TRUE(publish(one_.get(), "objects/x", "0123456789").ok());
  const auto file = *other_->open("objects/x");
  std::array<std::byte, 4> four{};
  ASSERT_TRUE(file->read(6, four).ok());
  EXPECT_EQ(std::memcmp(four.data(), "6789", 4), 0);
  EXPECT_EQ(file->read(7, four).code(), StatusCode::kOutOfRange);
  EXPECT_EQ(file->read(10, four).code(), StatusCode::kOutOfRange);
}

TEST_P(SharedMediumContract, memory_in_pieces) {
  const std::string bytes = random_bytes(place_->large(), 2);
  ASSERT_TRUE(publish(one_.get(), "objects/x", bytes).ok());
  const auto file = *other_->open("objects/x");
  for (const size_t offset :
       {size_t{0}, size_t{5}, size_t{65'530}, size_t{65'536}, size_t{70'000}}) {
    std::string into(200'000, '\0');
    const std::vector<iovec> pieces = {{into.data(), 100},
                                       {into.data(), 0},
                                       {into.data() + 100, 99'000},
                                       {into.data() + 99'100, 900}};
    const Status got = file->read_pieces(offset, pieces);
    ASSERT_TRUE(got.ok()) << got.to_string();
    EXPECT_TRUE(into.substr(0, 100'000) == bytes.substr(offset, 100'000)) << offset;
  }
}

TEST_P(SharedMediumContract, what_is_open_is_never_another) {
  const std::string first = random_bytes(place_->large(), 3);
  const std::string second = random_bytes(place_->large(), 4);
  ASSERT_TRUE(publish(one_.get(), "objects/k", first).ok());
  const auto file = *one_->open("objects/k");
  ASSERT_TRUE(other_->touch("objects/k").ok());
  std::string into(100'000, '\0');
  const auto memory = std::as_writable_bytes(std::span(into.data(), into.size()));
  ASSERT_TRUE(file->read(500'000, memory).ok());  // a touch changes nothing
  EXPECT_TRUE(into == first.substr(500'000, into.size()));
  ASSERT_TRUE(publish(other_.get(), "objects/k", second).ok());
  Status after = file->read(700'000, memory);
  EXPECT_TRUE(after.code() == StatusCode::kNotFound ||
              (after.ok() && into == first.substr(700'000, into.size())))
      << after.to_string();
  ASSERT_TRUE(other_->remove("objects/k").ok());
  after = file->read(900'000, memory);
  EXPECT_TRUE(after.code() == StatusCode::kNotFound ||
              (after.ok() && into == first.substr(900'000, into.size())))
      << after.to_string();
}

TEST_P(SharedMediumContract, a_listing_says_what_facts_say) {
  ASSERT_TRUE(publish(one_.get(), "objects/f/a", "12345").ok());
  ASSERT_TRUE(publish(one_.get(), "objects/f/sub/b", "1").ok());
  const auto listed = other_->list_facts("objects/f", 10);
  ASSERT_TRUE(listed.ok());
  ASSERT_EQ(listed->size(), 2u);
  for (const SharedMedium::Listed& each : *listed) {
    EXPECT_TRUE(each.name == "a" || (each.name == "sub" && !each.facts)) << each.name;
    if (!each.facts) continue;
    EXPECT_EQ(each.facts->bytes, 5u);
    EXPECT_LT(each.facts->age, seconds(30));
  }
}

TEST_P(SharedMediumContract, what_is_not_there) {
  EXPECT_EQ(one_->open("objects/none").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(one_->facts("objects/none").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(one_->touch("objects/none").code(), StatusCode::kNotFound);
  EXPECT_EQ(one_->remove("objects/none").code(), StatusCode::kNotFound);
  EXPECT_EQ(one_->move("objects/none", "trash/none").code(), StatusCode::kNotFound);
  const auto listed = one_->list("objects/none", 10);
  ASSERT_TRUE(listed.ok());
  EXPECT_TRUE(listed->empty());
}

TEST_P(SharedMediumContract, one_name_has_the_bytes_of_one_publisher) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      SharedMedium* const mine = i % 2 == 0 ? one_.get() : other_.get();
      const std::string bytes(100'000, static_cast<char>('a' + i));
      for (int n = 0; n < 10; ++n) EXPECT_TRUE(publish(mine, "objects/n/f/k.1", bytes).ok());
    });
  }
  for (int n = 0; n < 50; ++n) {
    const StatusOr<std::string> seen = read(one_.get(), "objects/n/f/k.1");
    if (!seen.ok()) {
      EXPECT_EQ(seen.status().code(), StatusCode::kNotFound);
      continue;
    }
    ASSERT_EQ(seen->size(), 100'000u);
    EXPECT_EQ(seen->find_first_not_of((*seen)[0]), std::string::npos);
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(one_->list("objects/n/f", 10)->size(), 1u);
}

TEST_P(SharedMediumContract, of_those_who_create_one_succeeds) {
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> won{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 6; ++i) {
      threads.emplace_back([&, i] {
        const Status made = (i % 2 == 0 ? one_ : other_)
                                ->create("leases/l." + std::to_string(round), std::to_string(i));
        if (made.ok()) ++won;
        EXPECT_TRUE(made.ok() || made.code() == StatusCode::kAlreadyExists) << made.to_string();
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(won.load(), 1);
  }
}

TEST_P(SharedMediumContract, names_move_and_go) {
  ASSERT_TRUE(publish(one_.get(), "objects/n/f/k.1", "first").ok());
  ASSERT_TRUE(publish(one_.get(), "objects/n/f/k.2", "second").ok());
  ASSERT_TRUE(other_->move("objects/n/f/k.1", "trash/k.1").ok());
  EXPECT_EQ(one_->open("objects/n/f/k.1").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(*read(one_.get(), "trash/k.1"), "first");
  EXPECT_EQ(*read(one_.get(), "objects/n/f/k.2"), "second");
  ASSERT_TRUE(one_->remove("trash/k.1").ok());
  EXPECT_EQ(other_->open("trash/k.1").status().code(), StatusCode::kNotFound);
  const auto folders = other_->list("objects", 10);
  ASSERT_TRUE(folders.ok());
  EXPECT_EQ(*folders, std::vector<std::string>{"n"});
}

TEST_P(SharedMediumContract, what_is_open_stays_readable) {
  ASSERT_TRUE(publish(one_.get(), "objects/k", "bytes").ok());
  const auto file = *one_->open("objects/k");
  ASSERT_TRUE(other_->move("objects/k", "trash/k").ok());
  ASSERT_TRUE(other_->remove("trash/k").ok());
  std::array<std::byte, 5> bytes{};
  ASSERT_TRUE(file->read(0, bytes).ok());
  EXPECT_EQ(std::memcmp(bytes.data(), "bytes", 5), 0);
}

TEST_P(SharedMediumContract, a_touch_makes_young) {
  ASSERT_TRUE(publish(one_.get(), "objects/k", "bytes").ok());
  SystemClock clock;
  const Nanos until = clock.now() + milliseconds(600) + 2 * place_->ages_to();
  while (clock.now() < until) std::this_thread::yield();
  const Nanos old = milliseconds(500) + place_->ages_to();
  EXPECT_GE(other_->facts("objects/k")->age, old);
  const auto open = *other_->open("objects/k");
  EXPECT_GE(open->age().value_or(old), old);
  ASSERT_TRUE(one_->touch("objects/k").ok());
  EXPECT_LT(other_->facts("objects/k")->age, old);
  const auto again = *other_->open("objects/k");
  EXPECT_LT(again->age().value_or(Nanos(0)), old);
  EXPECT_EQ(*read(other_.get(), "objects/k"), "bytes");
}

TEST_P(SharedMediumContract, a_listing_is_bounded_and_complete) {
  std::set<std::string> names;
  for (int i = 0; i < 40; ++i) {
    names.insert(std::to_string(i));
    ASSERT_TRUE(publish(one_.get(), "objects/f/" + std::to_string(i), "x").ok());
  }
  const auto all = *other_->list("objects/f", 1000);
  EXPECT_EQ(std::set<std::string>(all.begin(), all.end()), names);
  EXPECT_EQ(other_->list("objects/f", 7)->size(), 7u);
}
}  // namespace terrace
