// Goal: a node's word about a view is checked to the last byte: what is accepted lies inside memory
// that was lent and adds up; nothing crashes. Method: a good reply, then thousands of mutations of
// its bytes and of its fields from seeds.
#include "client/view_reply.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/limits.h"
#include "base/prng.h"
#include "proto/message_kind.h"

namespace terrace {
namespace {

constexpr uint64_t kFile = 9;
constexpr uint64_t kBoard = 10;
constexpr uint64_t kFileBytes = kMiB;

std::shared_ptr<const ShmMapping> mapped(uint64_t bytes) {
  const StatusOr<Fd> file = make_memory_file("view-test", bytes);
  return std::make_shared<const ShmMapping>(*ShmMapping::map(*file, {0, bytes}, true));
}

struct World {
  std::shared_ptr<const ShmMapping> data = mapped(kFileBytes);
  std::shared_ptr<const ShmMapping> board = mapped(4096);
  LentFile lent = [this](uint64_t file) -> std::shared_ptr<const ShmMapping> {
    return file == kFile ? data : file == kBoard ? board : nullptr;
  };
};

std::string packed(std::initializer_list<uint64_t> words) {
  ByteWriter out;
  for (const uint64_t word : words) out.u64(word);
  return out.take();
}

/// Two sections, 100,000 and 50 bytes, the first in two pieces; three units.
proto::ViewReply::View good() {
  proto::ViewReply::View view;
  view.set_id(5);
  view.set_generation(7);
  view.set_word(packed({kBoard, 64, 8}));
  view.set_pieces(packed({kFile, 4096, 65'536, kFile, 200'000, 34'464, kFile, 8, 50}));
  std::vector<SectionSpec> sections(2);
  sections[0].kind = SectionKind::raw;
  sections[0].bytes = 100'000;
  sections[1].kind = SectionKind::raw;
  sections[1].bytes = 50;
  view.set_sections(pack_sections(sections));
  view.set_crcs(std::string(3 * 4, 'x'));
  return view;
}

void expect_inside(const World& world, const Views::Held& held) {
  const auto inside = [](const ShmMapping& in, const std::byte* at, size_t bytes) {
    const std::span<const std::byte> memory = in.memory();
    return at >= memory.data() && at + bytes <= memory.data() + memory.size();
  };
  ASSERT_TRUE(inside(*world.board, held.word, 8) || inside(*world.data, held.word, 8));
  size_t units = 0;
  for (const ViewedSection& section : held.sections) {
    uint64_t bytes = 0;
    for (const auto& piece : section.pieces) {
      ASSERT_TRUE(inside(*world.data, piece.data(), piece.size()) ||
                  inside(*world.board, piece.data(), piece.size()));
      bytes += piece.size();
    }
    ASSERT_EQ(bytes, section.spec.bytes);
    units += units_touched(0, bytes);
  }
  ASSERT_EQ(units, held.crcs.size());
}

TEST(ViewReply, AGoodOneIsReadWhole) {
  World world;
  Views::Held held;
  const Status read = read_view(good(), world.lent, &held);
  ASSERT_TRUE(read.ok()) << read.to_string();
  expect_inside(world, held);
  EXPECT_EQ(held.sections[0].pieces.size(), 2u);
  EXPECT_EQ(held.sections[1].pieces[0].data(), world.data->memory().data() + 8);
  EXPECT_EQ(held.mappings.size(), 2u) << "both stay mapped";
  EXPECT_EQ(held.node_id, 5u);
  EXPECT_EQ(held.generation, 7u);
}

TEST(ViewReply, WrongFieldsAreRefused) {
  World world;
  const auto refused = [&](const std::function<void(proto::ViewReply::View*)>& change) {
    proto::ViewReply::View view = good();
    change(&view);
    Views::Held held;
    return !read_view(view, world.lent, &held).ok();
  };
  using View = proto::ViewReply::View;
  EXPECT_TRUE(refused([](View* v) { v->set_word(packed({kBoard, 4092, 8})); }));
  EXPECT_TRUE(refused([](View* v) { v->set_word(packed({kBoard, 4096, 8})); }));
  EXPECT_TRUE(refused([](View* v) { v->set_word(packed({77, 0, 8})); }));
  EXPECT_TRUE(refused([](View* v) { v->set_word(""); }));
  EXPECT_TRUE(refused([](View* v) { v->set_pieces(""); }));
  EXPECT_TRUE(refused([](View* v) { v->set_pieces(v->pieces() + packed({kFile, 0, 1})); }));
  EXPECT_TRUE(refused([](View* v) {
    v->set_pieces(packed({kFile, kFileBytes - 10, 65'536, kFile, 0, 34'464, kFile, 8, 50}));
  }));
  EXPECT_TRUE(refused([](View* v) {
    v->set_pieces(packed({kFile, ~uint64_t{0}, 65'536, kFile, 0, 34'464, kFile, 8, 50}));
  }));
  EXPECT_TRUE(refused([](View* v) {  // a piece that reaches from one section into the next
    v->set_pieces(packed({kFile, 0, 100'050}));
  }));
  EXPECT_TRUE(refused([](View* v) { v->set_pieces(packed({kFile, 0, 0})); }));
  EXPECT_TRUE(refused([](View* v) { v->set_crcs(std::string(8, 'x')); }));
  EXPECT_TRUE(refused([](View* v) { v->set_sections(""); }));
}

/// Ordinary memory, as if another process's.
class Slab final : public OpenedSlab {
 public:
  explicit Slab(std::vector<std::byte>* memory) : memory_(*memory) {}
  std::byte* address() const override { return memory_.data(); }
  DeviceResult read(uint64_t offset, std::span<std::byte> into) const override {
    std::memcpy(into.data(), memory_.data() + offset, into.size());
    return {};
  }

 private:
  std::vector<std::byte>& memory_;
};

TEST(ViewReply, OfDeviceMemoryNamesTheLoanAndStaysInside) {
  World world;
  constexpr uint64_t kLoan = 3;
  std::vector<std::byte> memory(kFileBytes);
  const auto device = std::make_shared<const OpenDevice>(nullptr, std::make_unique<Slab>(&memory),
                                                         kLoan, kFileBytes);
  const auto read = [&](const std::string& pieces, Views::Held* held) {
    proto::ViewReply::View view = good();
    view.set_pieces(pieces);
    held->device = device;
    return read_view(view, world.lent, held).ok();
  };
  Views::Held held;
  ASSERT_TRUE(read(packed({kLoan, kFileBytes - 100'000, 100'000, kLoan, 8, 50}), &held));
  EXPECT_EQ(held.sections[0].pieces[0].data(), memory.data() + kFileBytes - 100'000);
  EXPECT_EQ(held.mappings.size(), 1u) << "the word's";
  const auto refused = [&](std::initializer_list<uint64_t> pieces) {
    Views::Held none;
    return !read(packed(pieces), &none);
  };
  EXPECT_TRUE(refused({kLoan, kFileBytes - 99'999, 100'000, kLoan, 8, 50}));
  EXPECT_TRUE(refused({kLoan, ~uint64_t{0}, 100'000, kLoan, 8, 50}));
  EXPECT_TRUE(refused({kLoan + 1, 0, 100'000, kLoan, 8, 50})) << "another loan";
  EXPECT_TRUE(refused({kFile, 0, 100'000, kLoan, 8, 50})) << "memory of another kind";
}

TEST(ViewReply, MutatedBytesNeverReachOutsideOfWhatWasLent) {
  World world;
  size_t accepted = 0;
  for (uint64_t seed = 0; seed < 20'000; ++seed) {
    Prng prng(seed);
    std::string bytes = good().SerializeAsString();
    for (uint64_t n = 1 + prng.below(4); n > 0; --n) {
      bytes[prng.below(bytes.size())] = static_cast<char>(prng.below(256));
    }
    proto::ViewReply::View view;
    if (!view.ParseFromString(bytes)) continue;
    Views::Held held;
    if (!read_view(view, world.lent, &held).ok()) continue;
    ++accepted;
    ASSERT_NO_FATAL_FAILURE(expect_inside(world, held)) << "seed " << seed;
  }
  EXPECT_GT(accepted, 100u) << "some changes do no harm";
}
}  // namespace
}  // namespace terrace
