// Goal: an item is whole only when every requested byte arrived exactly once, where the request
// said, with the right checksum; the layer mark never passes a byte that did not.
// Method: seeded requests and deliveries, honest and spoiled, against a model of one entry per
// byte.
#include "client/delivery_check.h"

#include <gtest/gtest.h>

#include <numeric>

#include "base/crc32c.h"
#include "base/prng.h"

namespace terrace {
namespace {

constexpr RegionId kRegion{7};
constexpr uint64_t kMemoryBytes = 1 << 20;

/// One seeded world: objects, a request for parts of them, and honest deliveries of those parts.
struct World {
  explicit World(uint64_t seed) : prng(seed), memory(kMemoryBytes), uses(&table) {
    const bool raw = prng.chance(30);
    Geometry geometry;
    if (!raw) {
      geometry.tokens_per_chunk = 64;
      const uint64_t layers = 1 + prng.below(5);
      for (uint64_t l = 0; l < layers; ++l) {
        geometry.layers.push_back({static_cast<uint16_t>(1 + prng.below(4)), 64, Dtype::bf16,
                                   prng.chance(20) ? Attention::mla : Attention::gqa, 0,
                                   l > 0 && prng.chance(20) ? int32_t{0} : -1, 0});
        if (geometry.layers.back().attention == Attention::mla) geometry.layers.back().kv_heads = 1;
      }
      if (prng.chance(50)) {  // last layer first: aliases before what they share
        for (uint64_t l = layers; l > 0; --l) {
          geometry.need_order.push_back(static_cast<uint16_t>(l - 1));
        }
      }
    }
    shape = std::make_shared<const ObjectShape>(shape_of(geometry));
    if (raw) {
      uint64_t at = 0;
      for (uint64_t s = 0; s <= prng.below(3); ++s) {
        starts.push_back(at);
        at += 1 + prng.below(100'000);
      }
      starts.push_back(at);
    } else {
      starts = shape->section_starts;
    }
    table.add(kRegion, memory);
    for (uint64_t i = 0; i <= prng.below(3); ++i) add_item();
  }

  void add_item() {
    DeliveryCheck::Item item;
    prng.fill(item.key.digest);
    std::vector<std::byte> object(starts.back());
    prng.fill(object);
    std::vector<Fragment> fragments;
    for (uint64_t at = prng.below(starts.back()); at < starts.back() && fragments.size() < 20;) {
      const uint64_t length = std::min(1 + prng.below(starts.back()), starts.back() - at);
      if (memory_at + length + 16 > kMemoryBytes) break;
      fragments.push_back({at, kRegion, memory_at, length});
      EXPECT_TRUE(uses.add({kRegion, memory_at, length}).ok());
      memory_at += length + prng.below(16);
      at += length + (prng.chance(50) ? prng.below(5000) : 0);
    }
    item.map = *FragmentMap::create(std::move(fragments));
    objects.push_back(std::move(object));
    items.push_back(std::move(item));
  }

  /// All runs of all items, cut at sections, at most 64 KiB each, in random order.
  std::vector<Delivery> honest() {
    std::vector<Delivery> all;
    for (uint32_t i = 0; i < items.size(); ++i) {
      for (const ByteRange& run : items[i].map.runs()) {
        for (uint64_t at = run.offset; at < run.end();) {
          uint32_t section = 0;
          while (starts[section + 1] <= at) ++section;
          const uint64_t bytes =
              std::min({run.end(), starts[section + 1], at + 1 + prng.below(90'000)}) - at;
          Delivery d{i,          section, at - starts[section], at, static_cast<uint32_t>(bytes),
                     Tier::dram, {}};
          d.crcs = crcs_of(d);
          all.push_back(d);
          at += bytes;
        }
      }
    }
    for (size_t i = all.size(); i > 1; --i) std::swap(all[i - 1], all[prng.below(i)]);
    return all;
  }

  std::vector<uint32_t> crcs_of(const Delivery& d) const {
    std::vector<uint32_t> crcs;
    const std::span<const std::byte> bytes =
        std::span(objects[d.item]).subspan(d.object_offset, d.bytes);
    uint64_t done = 0;
    while (done < d.bytes) {
      const uint64_t at = d.offset + done;
      const uint64_t n = std::min<uint64_t>(kCrcUnitBytes - at % kCrcUnitBytes, d.bytes - done);
      crcs.push_back(unit_crc(items[d.item].key, d.section,
                              static_cast<uint32_t>(at / kCrcUnitBytes), bytes.subspan(done, n),
                              static_cast<uint32_t>(at % kCrcUnitBytes)));
      done += n;
    }
    return crcs;
  }

  std::vector<RemoteSpan> targets_of(const Delivery& d) const {
    std::vector<RemoteSpan> targets;
    items[d.item].map.locate({d.object_offset, d.bytes}, 1000, &targets);
    return targets;
  }

  /// What a transport that copies would say of the delivery's bytes; half of the time nothing.
  std::vector<uint32_t> sums_of(const Delivery& d) {
    std::vector<uint32_t> sums;
    if (prng.chance(50)) return sums;
    std::vector<std::byte> bytes;
    for (const RemoteSpan& t : targets_of(d)) {
      const auto piece = std::span(memory).subspan(t.offset, t.length);
      bytes.insert(bytes.end(), piece.begin(), piece.end());
    }
    std::vector<uint32_t> lengths;
    DeliveryCheck::unit_lengths({&d, 1}, &lengths);
    std::span<const std::byte> rest(bytes);
    for (const uint32_t length : lengths) {
      sums.push_back(crc32c(rest.first(length)));
      rest = rest.subspan(length);
    }
    EXPECT_TRUE(rest.empty());
    return sums;
  }
  void store(const Delivery& d) {
    uint64_t done = 0;
    for (const RemoteSpan& t : targets_of(d)) {
      std::copy_n(objects[d.item].begin() + static_cast<ptrdiff_t>(d.object_offset + done),
                  t.length, memory.begin() + static_cast<ptrdiff_t>(t.offset));
      done += t.length;
    }
  }

  Prng prng;
  std::vector<std::byte> memory;
  uint64_t memory_at = 0;
  MemoryTable table;
  RegionUses uses;
  std::shared_ptr<const ObjectShape> shape;
  std::vector<uint64_t> starts;
  std::vector<std::vector<std::byte>> objects;
  std::vector<DeliveryCheck::Item> items;
};

/// Layers whose requested bytes are all in `good`, by asking about every byte.
uint32_t layers_by_model(const World& world, const std::vector<std::vector<bool>>& good) {
  const ObjectShape& shape = *world.shape;
  std::vector<bool> whole(shape.layer_source.size(), true);
  for (size_t i = 0; i < world.items.size(); ++i) {
    for (const ByteRange& run : world.items[i].map.runs()) {
      for (uint64_t b = run.offset; b < run.end(); ++b) {
        if (good[i][b]) continue;
        if (shape.raw()) {
          whole[0] = false;
          continue;
        }
        size_t section = 0;
        while (world.starts[section + 1] <= b) ++section;
        whole[shape.section_layer[section]] = false;
      }
    }
  }
  uint32_t layers = 0;
  while (layers < whole.size() && whole[layers] && whole[shape.layer_source[layers]]) ++layers;
  return layers;
}

TEST(DeliveryCheck, HonestDeliveriesInAnyOrderMakeEveryItemWhole) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE("seed=" + std::to_string(seed));
    World world(seed);
    DeliveryCheck check(world.items, world.shape);
    std::vector<std::vector<bool>> good;
    for (const auto& object : world.objects) good.emplace_back(object.size());
    uint64_t bytes = 0;
    const std::vector<Delivery> deliveries = world.honest();
    for (size_t n = 0; n < deliveries.size(); ++n) {
      const Delivery& d = deliveries[n];
      ASSERT_TRUE(check.claim({&d, 1}, world.targets_of(d)).ok());
      EXPECT_FALSE(check.whole(d.item));
      world.store(d);
      check.landed({&d, 1}, world.uses, true, world.sums_of(d));
      std::fill_n(good[d.item].begin() + static_cast<ptrdiff_t>(d.object_offset), d.bytes, true);
      bytes += d.bytes;
      if (n % 4 == 0) {
        ASSERT_EQ(check.layers_ready(), layers_by_model(world, good));
      }
    }
    for (size_t i = 0; i < world.items.size(); ++i) EXPECT_TRUE(check.whole(i));
    EXPECT_EQ(check.layers_ready(), world.shape->layer_source.size());
    EXPECT_EQ(check.bytes_good(), bytes);
    EXPECT_EQ(check.bytes_verified(), bytes);
  }
}

TEST(DeliveryCheck, OneWrongBitOrAnotherKeysBytesFailOnlyTheirItem) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE("seed=" + std::to_string(seed));
    World world(seed);
    DeliveryCheck check(world.items, world.shape);
    const std::vector<Delivery> deliveries = world.honest();
    const size_t spoiled = world.prng.below(deliveries.size());
    uint32_t before_spoiled = 0;
    for (size_t n = 0; n < deliveries.size(); ++n) {
      const Delivery& d = deliveries[n];
      ASSERT_TRUE(check.claim({&d, 1}, world.targets_of(d)).ok());
      world.store(d);
      if (n == spoiled) {
        const auto targets = world.targets_of(d);
        const RemoteSpan& t = targets[world.prng.below(targets.size())];
        world.memory[t.offset + world.prng.below(t.length)] ^= std::byte{1};
      }
      check.landed({&d, 1}, world.uses, true, world.sums_of(d));
      if (n == spoiled) before_spoiled = check.layers_ready();
    }
    const Delivery& d = deliveries[spoiled];
    for (size_t i = 0; i < world.items.size(); ++i) EXPECT_EQ(check.whole(i), i != d.item);
    EXPECT_TRUE(check.failed(d.item));
    EXPECT_EQ(check.crc_failures(), 1u);
    EXPECT_GE(check.layers_ready(), before_spoiled);
    const uint32_t layer = world.shape->raw() ? 0u : world.shape->section_layer[d.section];
    EXPECT_LE(check.layers_ready(), layer) << "never past a layer with wrong bytes";
  }
}

TEST(DeliveryCheck, DuplicatesAndOverlapsAreRefused) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE("seed=" + std::to_string(seed));
    World world(seed);
    DeliveryCheck check(world.items, world.shape);
    std::vector<Delivery> deliveries = world.honest();
    for (const Delivery& d : deliveries)
      ASSERT_TRUE(check.claim({&d, 1}, world.targets_of(d)).ok());
    Delivery again = deliveries[world.prng.below(deliveries.size())];
    const uint32_t cut = static_cast<uint32_t>(world.prng.below(again.bytes));
    again.offset += cut;
    again.object_offset += cut;
    again.bytes -= cut;
    again.crcs = world.crcs_of(again);
    EXPECT_EQ(check.claim({&again, 1}, world.targets_of(again)).code(), StatusCode::kInternal);
  }
}

TEST(DeliveryCheck, EveryLieAboutPlacesIsRefused) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE("seed=" + std::to_string(seed));
    World world(seed);
    DeliveryCheck check(world.items, world.shape);
    const std::vector<Delivery> deliveries = world.honest();
    Delivery d = deliveries[world.prng.below(deliveries.size())];
    std::vector<RemoteSpan> targets = world.targets_of(d);
    RemoteSpan& target = targets[world.prng.below(targets.size())];
    switch (world.prng.below(8)) {
      case 0:
        target.offset += 1;
        break;
      case 1:
        target.region = RegionId{99};
        break;
      case 2:
        target.length += 1;
        break;
      case 3:
        targets.pop_back();
        break;
      case 4:
        d.item = static_cast<uint32_t>(world.items.size());
        break;
      case 5:
        d.object_offset = ~uint64_t{0} - 5;
        break;
      case 6:
        d.offset = d.object_offset + 1;
        break;
      default:
        d.crcs.push_back(0);
    }
    const Status refused = check.claim({&d, 1}, targets);
    EXPECT_EQ(refused.code(), StatusCode::kInternal) << refused.to_string();
  }
}

TEST(DeliveryCheck, WithoutVerifyingOnlyTheChecksumIsSkipped) {
  World world(3);
  DeliveryCheck check(world.items, world.shape);
  for (const Delivery& d : world.honest()) {  // nothing is stored: the memory stays zero
    ASSERT_TRUE(check.claim({&d, 1}, world.targets_of(d)).ok());
    EXPECT_FALSE(check.claim({&d, 1}, world.targets_of(d)).ok());
    check.landed({&d, 1}, world.uses, false, {});
  }
  for (size_t i = 0; i < world.items.size(); ++i) EXPECT_TRUE(check.whole(i));
  EXPECT_EQ(check.bytes_verified(), 0u);
}

TEST(RangeSet, MatchesAByteByByteModel) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE("seed=" + std::to_string(seed));
    Prng prng(seed);
    RangeSet set;
    std::vector<bool> model(101);
    for (int step = 0; step < 60; ++step) {
      const uint64_t begin = prng.below(90);
      const uint64_t end = begin + 1 + prng.below(10);
      bool is_free = true;
      for (uint64_t b = begin; b < end; ++b) is_free = is_free && !model[b];
      ASSERT_EQ(set.insert({begin, end - begin}), is_free);
      if (is_free)
        std::fill(model.begin() + static_cast<ptrdiff_t>(begin),
                  model.begin() + static_cast<ptrdiff_t>(end), true);
      size_t runs = 0;
      for (size_t b = 0; b < 100; ++b) runs += model[b] && (b == 0 || !model[b - 1]) ? 1 : 0;
      ASSERT_EQ(set.size(), runs) << "neighbours merge";
    }
  }
}
}  // namespace
}  // namespace terrace
