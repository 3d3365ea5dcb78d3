// Goal: a pass reads every byte that lies in the shared tier, whoever's it is; it names what is
// damaged and nothing else, and says what it could not look at. Method: real files, flipped, cut,
// renamed, removed and strange; a file system that fails, or flips a byte once on the way.
#include "storage/shared_verify.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <set>

#include "base/crc32c.h"
#include "base/limits.h"
#include "storage/shared_directory.h"
#include "tests/sim/faulty_files.h"
#include "tests/sim/shared_copies.h"

namespace terrace {
namespace {
namespace fs = std::filesystem;

/// Flips a bit of the n-th read, once.
class FlippingFiles final : public FileCalls {
 public:
  explicit FlippingFiles(uint64_t at) : at_(at) {}
  ssize_t read(int fd, std::span<std::byte> into, uint64_t offset) override {
    const ssize_t got = FileCalls::read(fd, into, offset);
    if (reads_++ == at_ && got > 0) into[static_cast<size_t>(got) / 2] ^= std::byte{1};
    return got;
  }

 private:
  const uint64_t at_;
  uint64_t reads_ = 0;
};

/// What the kernel remembers of every copy is damaged, until it is told to forget that.
class RememberedBadly final : public FileCalls {
 public:
  int open(const std::string& path, int flags, mode_t mode) override {
    const int fd = FileCalls::open(path, flags, mode);
    if (fd >= 0) paths_[fd] = path.find("/objects/") == std::string::npos ? "" : path;
    return fd;
  }
  ssize_t read(int fd, std::span<std::byte> into, uint64_t offset) override {
    const ssize_t got = FileCalls::read(fd, into, offset);
    const std::string& copy = paths_[fd];
    if (got > 0 && !copy.empty() && !forgotten_.contains(copy)) {
      into[static_cast<size_t>(got) / 2] ^= std::byte{1};
    }
    return got;
  }
  void forget(int fd) override { forgotten_.insert(paths_[fd]); }

 private:
  std::map<int, std::string> paths_;
  std::set<std::string> forgotten_;
};

class SharedVerifyTest : public ::testing::Test {
 protected:
  struct Result {
    Status status;      // of the last step
    Status incomplete;  // what it could not look at
    uint64_t steps = 0;
    uint64_t bytes = 0;
    uint64_t most = 0;  // bytes of one step
    uint64_t objects = 0;
    uint64_t skipped = 0;
    std::set<std::string> damaged;
  };

  SharedVerifyTest() {
    std::string pattern = fs::temp_directory_path() / "terrace-verify-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
    medium_ = SharedDirectory::make(path_, std::make_unique<FileCalls>(), &clock_);
  }
  ~SharedVerifyTest() override { fs::remove_all(path_); }

  SharedName publish(uint64_t n, const std::vector<uint64_t>& sections = {200'000, 70'000}) {
    return testing::publish_copy(medium_.get(), n, sections);
  }
  std::string file(const SharedName& copy) const { return path_ + "/" + shared_path(copy); }
  void flip(const SharedName& copy, std::streamoff at) const {
    std::fstream open(file(copy), std::ios::in | std::ios::out | std::ios::binary);
    open.seekg(at);
    const int byte = open.get();
    open.seekp(at);
    open.put(static_cast<char>(byte ^ 0x10));
  }
  /// As a later build would have written it.
  void make_later(const SharedName& copy) const {
    std::fstream open(file(copy), std::ios::in | std::ios::out | std::ios::binary);
    std::string head(4096, '\0');
    open.read(head.data(), static_cast<std::streamsize>(head.size()));
    head[4] = '\x02';
    std::fill_n(head.begin() + 88, 4, '\0');
    const uint32_t crc = crc32c(head);
    std::memcpy(head.data() + 88, &crc, sizeof crc);
    open.seekp(0);
    open.write(head.data(), static_cast<std::streamsize>(head.size()));
  }
  static void write(const std::string& path) {
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path) << "not ours";
  }
  Result run(std::shared_ptr<SharedMedium> medium = nullptr, uint64_t bytes_max = kMiB,
             const std::function<void(const Result&)>& between = nullptr) {
    if (medium == nullptr) medium = medium_;
    SharedVerify verify(medium, options_, &clock_);
    Result out;
    while (out.status.ok() && !verify.over() && out.steps < 100'000) {
      out.status = verify.step(bytes_max);
      const SharedVerify::Step& did = verify.last();
      ++out.steps;
      out.bytes += did.bytes;
      out.most = std::max(out.most, did.bytes);
      out.objects += did.objects;
      out.skipped += did.skipped;
      if (did.damaged) out.damaged.insert(shared_path(*did.damaged));
      if (between) between(out);
    }
    EXPECT_FALSE(verify.open() && verify.over());
    out.incomplete = verify.incomplete();
    return out;
  }
  std::shared_ptr<SharedMedium> flipping(uint64_t at) {
    return SharedDirectory::make(path_, std::make_unique<FlippingFiles>(at), &clock_);
  }
  std::shared_ptr<SharedMedium> faulty() {
    return SharedDirectory::make(path_, std::make_unique<testing::FaultyFiles>(faults_), &clock_);
  }

  SystemClock clock_;
  std::string path_;
  std::shared_ptr<SharedMedium> medium_;
  SharedVerifyOptions options_;
  std::shared_ptr<testing::FileFaults> faults_ = std::make_shared<testing::FileFaults>();
};

TEST_F(SharedVerifyTest, a_tier_with_nothing_in_it_is_whole) {
  const Result done = run();
  EXPECT_TRUE(done.status.ok() && done.incomplete.ok());
  EXPECT_EQ(done.objects, 0u);
}

TEST_F(SharedVerifyTest, one_that_is_not_mounted_is_not_whole) {
  publish(1);
  fs::remove_all(path_);
  const Result done = run();
  EXPECT_EQ(done.status.code(), StatusCode::kUnavailable);
  EXPECT_EQ(done.objects, 0u);
  fs::create_directory(path_);
}

TEST_F(SharedVerifyTest, every_copy_of_every_namespace_is_read_whole) {
  uint64_t stored = 0;
  for (uint64_t n = 0; n < 20; ++n) stored += fs::file_size(file(publish(n)));
  stored += fs::file_size(file(publish(20, {1})));
  stored += fs::file_size(file(publish(21, std::vector<uint64_t>(300, 5000))));
  const SharedName large = publish(22, {9 * kMiB + 17, 40, 3 * kMiB});
  stored += fs::file_size(file(large));
  for (const uint64_t bytes_max : {kMiB / 4, kMiB, 4 * kMiB}) {
    const Result done = run(nullptr, bytes_max);
    EXPECT_TRUE(done.status.ok() && done.incomplete.ok()) << done.incomplete.to_string();
    EXPECT_EQ(done.objects, 23u);
    EXPECT_EQ(done.skipped, 0u);
    EXPECT_TRUE(done.damaged.empty());
    EXPECT_LE(done.bytes, stored);
    EXPECT_GE(done.bytes, stored - 23 * 3 * kSectorBytes);  // the padding behind the last section
    EXPECT_LE(done.most, bytes_max + kCrcUnitBytes + kHeaderBytesMax);
  }
}

TEST_F(SharedVerifyTest, each_kind_of_damage_is_found_and_only_that) {
  std::set<std::string> bad;
  for (uint64_t n = 0; n < 10; ++n) publish(n);
  const auto spoil = [&](uint64_t n, const std::function<void(const SharedName&)>& how) {
    const SharedName copy = publish(n);
    how(copy);
    bad.insert(shared_path(copy));
  };
  spoil(10, [&](const SharedName& copy) { flip(copy, 150'000); });
  spoil(11, [&](const SharedName& copy) { flip(copy, 4096); });
  spoil(12, [&](const SharedName& copy) { flip(copy, 60); });
  spoil(13, [&](const SharedName& copy) { flip(copy, 0); });
  spoil(14, [&](const SharedName& copy) { fs::resize_file(file(copy), 100'000); });
  spoil(15, [&](const SharedName& copy) { fs::resize_file(file(copy), 100); });
  spoil(16, [&](const SharedName& copy) { fs::resize_file(file(copy), 0); });
  spoil(17, [&](const SharedName& copy) { fs::resize_file(file(copy), 500'000); });
  spoil(18, [&](const SharedName& copy) {
    fs::copy_file(file(testing::copy_name(0, 270'000)), file(copy),
                  fs::copy_options::overwrite_existing);
  });
  spoil(19, [&](const SharedName& copy) {
    fs::remove(file(copy));
    fs::create_directory(file(copy));
  });
  for (const uint64_t bytes_max : {kMiB / 4, 4 * kMiB}) {
    const Result done = run(nullptr, bytes_max);
    EXPECT_TRUE(done.status.ok() && done.incomplete.ok()) << done.incomplete.to_string();
    EXPECT_EQ(done.objects, 20u);
    EXPECT_EQ(done.skipped, 0u);
    EXPECT_EQ(done.damaged, bad);
  }
}

TEST_F(SharedVerifyTest, damage_that_a_second_reading_has_not_got_is_none) {
  publish(1, {3 * kMiB, 500});
  uint64_t reads = 0;
  for (uint64_t at = 0; at < 40; ++at) {
    const Result done = run(flipping(at), kMiB / 2);
    EXPECT_TRUE(done.status.ok() && done.incomplete.ok()) << at;
    EXPECT_TRUE(done.damaged.empty()) << at;
    EXPECT_EQ(done.objects, 1u) << at;
    reads += done.bytes > 3 * kMiB + 2 * kSectorBytes ? 1 : 0;
  }
  EXPECT_GE(reads, 7u) << "the flip met nothing";
}

TEST_F(SharedVerifyTest, damage_in_what_this_machine_remembers_is_none_of_the_copy) {
  std::set<std::string> rotten;
  for (uint64_t n = 0; n < 4; ++n) {
    const SharedName copy = publish(n, {2 * kMiB, 500});
    if (n % 2 == 1) continue;
    flip(copy, 100'000);
    rotten.insert(shared_path(copy));
  }
  const std::shared_ptr<SharedMedium> medium =
      SharedDirectory::make(path_, std::make_unique<RememberedBadly>(), &clock_);
  const Result done = run(medium, kMiB / 2);
  EXPECT_TRUE(done.status.ok() && done.incomplete.ok()) << done.incomplete.to_string();
  EXPECT_EQ(done.objects, 4u);
  EXPECT_EQ(done.damaged, rotten);
}

TEST_F(SharedVerifyTest, what_is_not_ours_is_skipped_and_counted) {
  const SharedName copy = publish(1);
  const std::string folder = fs::path(file(copy)).parent_path();
  write(path_ + "/objects/README");
  write(path_ + "/objects/" + copy.ns.hex() + "/lost+found");
  write(folder + "/notes.txt");
  fs::copy_file(file(copy),
                folder + "/" + testing::copy_name(2, 270'000).key.hex() + ".0000000000000001");
  const SharedName later = publish(4);
  make_later(later);
  const SharedName like_later = publish(5);
  flip(like_later, 4);                            // says so, and its checksum does not
  write(path_ + "/objects/" + ChunkKey{}.hex());  // a file where a namespace would be
  const Result done = run();
  EXPECT_TRUE(done.status.ok());
  EXPECT_EQ(done.incomplete.code(), StatusCode::kUnavailable) << "of the last one";
  EXPECT_EQ(done.objects, 2u);
  EXPECT_EQ(done.skipped, 6u);
  EXPECT_EQ(done.damaged, std::set<std::string>{shared_path(like_later)});
}

TEST_F(SharedVerifyTest, what_goes_before_its_turn_is_no_damage) {
  std::vector<SharedName> copies;
  for (uint64_t n = 0; n < 30; n += 3) copies.push_back(publish(n, {300'000}));
  bool gone = false;
  const Result done = run(nullptr, kMiB / 4, [&](const Result& so_far) {
    if (gone || so_far.objects < 3) return;
    gone = true;
    for (size_t i = 0; i < copies.size(); i += 2) fs::remove(file(copies[i]));
    fs::remove_all(path_ + "/objects/" + copies[1].ns.hex() + "/abc");
  });
  EXPECT_TRUE(gone);
  EXPECT_TRUE(done.status.ok() && done.incomplete.ok());
  EXPECT_GE(done.objects, 5u);
  EXPECT_LT(done.objects, 10u);
  EXPECT_EQ(done.skipped, 0u);
  EXPECT_TRUE(done.damaged.empty());
}

TEST_F(SharedVerifyTest, one_that_is_replaced_while_it_is_read_is_no_damage) {
  const SharedName copy = publish(1, {3 * kMiB});
  std::string other = path_ + "/other";
  fs::copy_file(file(copy), other);
  bool done_it = false;
  const Result done = run(nullptr, kMiB / 2, [&](const Result& so_far) {
    if (done_it || so_far.bytes < kMiB) return;
    done_it = true;
    flip(copy, 2'500'000);          // the open file is rotten by now
    fs::rename(other, file(copy));  // and another good one has its name
  });
  EXPECT_TRUE(done_it);
  EXPECT_EQ(done.objects, 1u);
  EXPECT_TRUE(done.damaged.empty());
}

TEST_F(SharedVerifyTest, one_that_cannot_be_read_is_skipped_and_said) {
  for (uint64_t n = 0; n < 12; n += 3) publish(n);
  const auto medium = faulty();
  uint64_t skipped = 0;
  for (uint64_t at = 0; at < 40; ++at) {
    faults_->fail(at, EIO, false);
    const Result done = run(medium);
    EXPECT_TRUE(done.damaged.empty()) << at;
    EXPECT_EQ(done.incomplete.ok() && done.status.ok(), done.objects == 4) << at;
    if (!done.status.ok()) continue;
    EXPECT_LE(done.objects + done.skipped, 4u) << at;  // a whole folder may be the one
    skipped += done.skipped;
    EXPECT_EQ(done.incomplete.code() == StatusCode::kUnavailable, done.skipped > 0) << at;
  }
  EXPECT_GT(skipped, 8u);
}

TEST_F(SharedVerifyTest, a_medium_that_fails_ends_the_pass) {
  for (uint64_t n = 0; n < 60; n += 3) publish(n);
  const auto medium = faulty();
  const Result done = run(medium, kMiB, [&](const Result& so_far) {
    if (so_far.objects >= 3) faults_->fail(0, EIO, true);
  });
  EXPECT_EQ(done.status.code(), StatusCode::kUnavailable);
  EXPECT_EQ(done.skipped, 8u) << "and then no more";
  EXPECT_TRUE(done.damaged.empty());
  faults_->fail(0, EIO, true);
  EXPECT_EQ(run(medium).status.code(), StatusCode::kUnavailable);
}

TEST_F(SharedVerifyTest, a_folder_with_too_many_names_is_said) {
  const SharedName copy = publish(1);
  const std::string folder = fs::path(file(copy)).parent_path();
  for (int i = 0; i < 6; ++i) write(folder + "/strange" + std::to_string(i));
  options_.names_max = 5;
  const Result done = run();
  EXPECT_TRUE(done.status.ok());
  EXPECT_EQ(done.incomplete.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(done.incomplete.message().find("5 names"), std::string::npos);
  EXPECT_EQ(done.objects + done.skipped, 5u);
}

TEST_F(SharedVerifyTest, one_that_is_abandoned_leaves_nothing_open) {
  publish(1, {8 * kMiB});
  SharedVerify verify(medium_, options_, &clock_);
  while (!verify.open() || verify.last().bytes == 0) ASSERT_TRUE(verify.step(kMiB).ok());
  verify.abandon();
  ASSERT_TRUE(verify.step(kMiB).ok());
  EXPECT_FALSE(verify.open());
  EXPECT_FALSE(verify.over());
  EXPECT_EQ(verify.last().bytes, 0u);
}
}  // namespace
}  // namespace terrace
