// Goal: whatever fails while an object is published, and whenever its publisher dies, no name shows
// anything that is not whole; what was acknowledged is there. And nothing but whole, right bytes is
// ever read. Method: every call of the file system fails in turn, once and for ever; files are cut
// and flipped at every place.
#include "storage/shared_directory.h"

#include <gtest/gtest.h>

#include <sys/stat.h>
#include <cstdlib>
#include <filesystem>

#include <fstream>

#include "base/crc32c.h"
#include "base/limits.h"
#include "base/prng.h"
#include "storage/shared_object.h"
#include "tests/sim/faulty_files.h"

namespace terrace {
namespace {
using testing::FaultyFiles;
using testing::FileFaults;

class SharedDirectoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "terrace-shared-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
    make_object();
  }
  void TearDown() override { std::filesystem::remove_all(path_); }

  std::shared_ptr<SharedDirectory> faulty() {
    return SharedDirectory::make(path_, std::make_unique<FaultyFiles>(faults_), &clock_);
  }
  std::shared_ptr<SharedDirectory> honest() {
    return SharedDirectory::make(path_, std::make_unique<FileCalls>(), &clock_);
  }

  /// Two sections with awkward ends.
  void make_object() {
    header_.sections = {{SectionKind::raw, Codec::identity, 0, 70'001},
                        {SectionKind::raw, Codec::identity, 0, 5}};
    Prng(7).fill(header_.key.digest);
    Prng(8).fill(name_.ns.digest);
    header_.user_meta = "meta";
    data_.resize(73'728 + 4096);
    const std::span<std::byte> all(data_);
    Prng(9).fill(all.first(70'001));
    Prng(10).fill(all.subspan(73'728, 5));
    header_.unit_crcs = {unit_crc(header_.key, 0, 0, all.first(65'536)),
                         unit_crc(header_.key, 0, 1, all.subspan(65'536, 70'001 - 65'536)),
                         unit_crc(header_.key, 1, 0, all.subspan(73'728, 5))};
    name_.key = header_.key;
    name_.generation = SharedGeneration::of(1'700'000'000, 70'006);
  }
  Status publish(SharedMedium* medium) {
    const iovec data{data_.data(), data_.size()};
    return publish_shared(medium, name_, header_, {&data, 1});
  }
  /// OK: it was read and every byte is right.
  Status read(SharedMedium* medium) {
    TERRACE_ASSIGN_OR_RETURN(const SharedHeader header, read_shared_header(medium, name_));
    std::vector<std::byte> back(data_.size());
    const iovec into{back.data(), back.size()};
    TERRACE_RETURN_IF_ERROR(load_shared(medium, name_, header, {&into, 1}));
    if (header.header.user_meta != "meta" || back != data_) {
      return error(StatusCode::kInternal, "wrong bytes as if they were right");
    }
    return ok_status();
  }
  std::string file() const { return path_ + "/" + shared_path(name_); }

  SystemClock clock_;
  std::string path_;
  std::shared_ptr<FileFaults> faults_ = std::make_shared<FileFaults>();
  ObjectHeader header_;
  SharedName name_;
  std::vector<std::byte> data_;
};

TEST_F(SharedDirectoryTest, names_say_what_they_mean) {
  const auto leaf = parse_shared_leaf(shared_path(name_).substr(shared_path(name_).rfind('/') + 1));
  ASSERT_TRUE(leaf);
  EXPECT_EQ(leaf->key, name_.key);
  EXPECT_EQ(leaf->generation, name_.generation);
  EXPECT_EQ(leaf->generation.logical_bytes(), 70'006u);
  EXPECT_LT(name_.generation, SharedGeneration::of(1'700'000'001, 5));
  EXPECT_FALSE(parse_shared_leaf("x"));
  EXPECT_FALSE(parse_shared_leaf(name_.key.hex() + ".00000000000000g0"));
  EXPECT_FALSE(parse_shared_folder("ab"));
  EXPECT_EQ(parse_shared_folder("abc"), 0xABCu);
  // Tenants never share a folder, whatever their names are made of.
  EXPECT_NE(shared_namespace_digest("a", "bc", {}), shared_namespace_digest("ab", "c", {}));
}

TEST_F(SharedDirectoryTest, the_digest_of_a_namespace_is_a_format) {
  EXPECT_EQ(shared_namespace_digest("tenant", "name", ChunkKey{}).hex(),
            "ec9b610625be1c16562137c486e41b3950f1bdf65727ca7861c745dc959d485d");
}

TEST_F(SharedDirectoryTest, a_root_that_is_not_there_is_refused) {
  const auto checked = [this](const std::string& root) {
    return SharedDirectory::make(root, std::make_unique<FileCalls>(), &clock_)->check().code();
  };
  EXPECT_EQ(checked(path_), StatusCode::kOk);
  EXPECT_EQ(checked(path_ + "/none"), StatusCode::kNotFound);
  std::ofstream(path_ + "/file") << "x";
  EXPECT_EQ(checked(path_ + "/file"), StatusCode::kInvalidArgument);
}

TEST_F(SharedDirectoryTest, each_call_fails_once) {
  const auto reader = honest();
  for (const int error : {EIO, ENOSPC, ESTALE}) {
    bool through = false;
    for (uint64_t n = 0; !through; ++n) {
      ASSERT_LT(n, 200u);
      std::filesystem::remove_all(path_ + "/objects");
      const auto medium = faulty();
      faults_->reset();
      faults_->error = error;
      faults_->write_max = 4099;  // short writes on top
      faults_->fail_at = n;
      const Status published = publish(medium.get());
      through = faults_->calls <= n;  // it did not come that far
      EXPECT_TRUE(published.ok() || !through) << published.to_string();
      if (error == ENOSPC && !published.ok()) {
        EXPECT_EQ(published.code(), StatusCode::kResourceExhausted);
      }
      const Status seen = read(reader.get());
      EXPECT_TRUE(seen.ok() || (!published.ok() && seen.code() == StatusCode::kNotFound))
          << "call " << n << ": " << seen.to_string();
      faults_->reset();
      EXPECT_TRUE(publish(medium.get()).ok()) << "call " << n << ": it does not recover";
      EXPECT_TRUE(read(reader.get()).ok());
    }
  }
}

TEST_F(SharedDirectoryTest, the_publisher_dies_at_each_call) {
  const auto reader = honest();
  bool through = false;
  for (uint64_t n = 0; !through; ++n) {
    ASSERT_LT(n, 200u);
    std::filesystem::remove_all(path_ + "/objects");
    faults_->reset();
    const auto medium = faulty();
    faults_->reset();
    faults_->write_max = 4099;
    faults_->fail_at = n;
    faults_->for_ever = true;
    const bool published = publish(medium.get()).ok();
    through = faults_->calls <= n;
    const Status seen = read(reader.get());
    EXPECT_TRUE(seen.ok() || (!published && seen.code() == StatusCode::kNotFound))
        << "call " << n << ": " << seen.to_string();
  }
}

TEST_F(SharedDirectoryTest, a_file_cut_anywhere_is_damaged) {
  const auto medium = honest();
  for (const uint64_t bytes : {0u, 1u, 4095u, 4096u, 4097u, 8192u, 60'000u, 81'919u, 81'921u}) {
    ASSERT_TRUE(publish(medium.get()).ok());
    std::filesystem::resize_file(file(), bytes);
    EXPECT_EQ(read(medium.get()).code(), StatusCode::kDataLoss) << bytes << " bytes are left";
  }
}

TEST_F(SharedDirectoryTest, a_flipped_bit_anywhere_is_never_data) {
  const auto medium = honest();
  ASSERT_TRUE(publish(medium.get()).ok());
  const uint64_t size = std::filesystem::file_size(file());
  Prng prng(3);
  for (int i = 0; i < 400; ++i) {
    const uint64_t at = i < 120 ? static_cast<uint64_t>(i) : prng.below(size);
    std::fstream open(file(), std::ios::in | std::ios::out | std::ios::binary);
    open.seekg(static_cast<std::streamoff>(at));
    const int byte = open.get();
    open.seekp(static_cast<std::streamoff>(at));
    open.put(static_cast<char>(byte ^ 1 << prng.below(8)));
    open.close();
    const Status seen = read(medium.get());
    // A flip in the padding between sections harms nobody, but the comparison sees it.
    const bool padding = at >= 4096 + 70'001 && (at < 4096 + 73'728 || at >= 4096 + 73'728 + 5);
    if (!padding) {
      EXPECT_TRUE(seen.code() == StatusCode::kDataLoss ||
                  seen.code() == StatusCode::kFailedPrecondition)
          << "byte " << at << ": " << seen.to_string();
    }
    ASSERT_TRUE(publish(medium.get()).ok());
  }
}

TEST_F(SharedDirectoryTest, a_copy_of_another_name_is_damaged) {
  const auto medium = honest();
  ASSERT_TRUE(publish(medium.get()).ok());
  const SharedName right = name_;
  const std::string from = file();
  for (int what = 0; what < 3; ++what) {
    name_ = right;
    if (what == 0) name_.key.digest[5] ^= std::byte{1};
    if (what == 1) name_.ns.digest[5] ^= std::byte{1};
    if (what == 2) name_.generation = SharedGeneration::of(1'700'000'001, 70'006);
    std::filesystem::create_directories(std::filesystem::path(file()).parent_path());
    std::filesystem::copy_file(from, file());
    EXPECT_EQ(read(medium.get()).code(), StatusCode::kDataLoss) << what;
  }
}

TEST_F(SharedDirectoryTest, a_header_that_only_another_program_would_write_is_damaged) {
  const auto medium = honest();
  for (const bool extents : {true, false}) {
    ObjectHeader crafted = header_;
    crafted.generation = name_.generation.number;
    crafted.optional_features = kFeatureNamespaceDigest;
    crafted.optional_fields =
        std::string(reinterpret_cast<const char*>(name_.ns.digest.data()), name_.ns.digest.size());
    if (extents) crafted.extents.resize(600, {1, 1});
    if (!extents) crafted.sections.push_back({SectionKind::raw, Codec::identity, 0, 0});
    std::vector<std::byte> head(header_bytes(crafted, crafted.extents.size()));
    encode(crafted, head);
    const std::vector<iovec> pieces = {{head.data(), head.size()}, {data_.data(), data_.size()}};
    ASSERT_TRUE(medium->publish(shared_path(name_), pieces).ok());
    EXPECT_EQ(read_shared_header(medium.get(), name_).status().code(), StatusCode::kDataLoss);
  }
}

TEST_F(SharedDirectoryTest, what_is_no_file_is_not_waited_for) {
  const auto medium = honest();
  ASSERT_TRUE(publish(medium.get()).ok());
  std::filesystem::rename(file(), path_ + "/elsewhere");
  std::filesystem::create_symlink(path_ + "/elsewhere", file());
  EXPECT_FALSE(read(medium.get()).ok());
  std::filesystem::remove(file());
  ASSERT_EQ(::mkfifo(file().c_str(), 0600), 0);
  EXPECT_EQ(read(medium.get()).code(), StatusCode::kDataLoss);
  EXPECT_TRUE(medium->facts(shared_path(name_)).ok());  // the sweeper may remove it
}

TEST_F(SharedDirectoryTest, rotten_bytes_are_not_published) {
  data_[66'000] ^= std::byte{4};
  EXPECT_EQ(publish(honest().get()).code(), StatusCode::kDataLoss);
  EXPECT_FALSE(std::filesystem::exists(file()));
}
}  // namespace
}  // namespace terrace
