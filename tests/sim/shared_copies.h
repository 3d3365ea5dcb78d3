// tests/sim/shared_copies.h - objects in a shared medium whose bytes follow from a number, without
// a store. Any thread.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/crc32c.h"
#include "base/limits.h"
#include "base/prng.h"
#include "storage/shared_object.h"

namespace terrace::testing {

/// The copy number `n`, of one of three namespaces.
inline SharedName copy_name(uint64_t n, uint64_t logical_bytes) {
  SharedName out;
  Prng(n + 1).fill(out.key.digest);
  Prng(n % 3 + 100).fill(out.ns.digest);
  out.generation = SharedGeneration::of(1'700'000'000, logical_bytes);
  return out;
}

/// Publishes it with sections of so many bytes.
inline SharedName publish_copy(SharedMedium* medium, uint64_t n,
                               const std::vector<uint64_t>& sections) {
  ObjectHeader header;
  uint64_t logical = 0;
  for (const uint64_t bytes : sections) {
    header.sections.push_back({SectionKind::raw, Codec::identity, 0, bytes});
    logical += bytes;
  }
  const SharedName target = copy_name(n, logical);
  header.key = target.key;
  std::vector<std::byte> data;
  for (uint32_t s = 0; s < sections.size(); ++s) {
    std::vector<std::byte> section(sections[s]);
    Prng(n * 100 + s).fill(section);
    for (uint32_t u = 0; u < units_of(section.size()); ++u) {
      const auto rest = std::span(section).subspan(size_t{u} * kCrcUnitBytes);
      const size_t unit = std::min<size_t>(kCrcUnitBytes, rest.size());
      header.unit_crcs.push_back(unit_crc(target.key, s, u, rest.first(unit)));
    }
    section.resize((section.size() + kSectorBytes - 1) / kSectorBytes * kSectorBytes);
    data.insert(data.end(), section.begin(), section.end());
  }
  const iovec piece{data.data(), data.size()};
  EXPECT_TRUE(publish_shared(medium, target, header, {&piece, 1}).ok());
  return target;
}
}  // namespace terrace::testing
