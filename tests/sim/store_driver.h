// tests/sim/store_driver.h - a dull client of a ChunkStore for tests: puts objects whose bytes
// follow from a number, reads them back, and compares every byte. Blocking: it turns the loop
// itself.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "base/loop.h"
#include "base/prng.h"
#include "storage/chunk_store.h"
#include "tests/sim/waiting.h"

namespace terrace::testing {

/// What object number `n` is. The same number is the same object everywhere.
struct TestObject {
  explicit TestObject(uint64_t n, std::vector<uint64_t> sizes = {})
      : number(n), section_bytes(std::move(sizes)) {
    Prng prng(n * 977 + 5);
    prng.fill(key.digest);
    if (section_bytes.empty()) {
      const uint64_t sections = 1 + prng.below(3);
      for (uint64_t i = 0; i < sections; ++i) section_bytes.push_back(1 + prng.below(90'000));
    }
  }
  std::vector<std::byte> section(uint32_t s) const {
    std::vector<std::byte> bytes(section_bytes[s]);
    Prng(number * 131 + s).fill(bytes);
    return bytes;
  }
  uint64_t bytes() const {
    uint64_t sum = 0;
    for (uint64_t each : section_bytes) sum += each;
    return sum;
  }
  uint64_t number;
  std::vector<uint64_t> section_bytes;
  ChunkKey key;
};

class StoreDriver {
 public:
  /// `turn` lets the world go on a little; false: it never will again.
  using Turn = std::function<bool()>;
  StoreDriver(ChunkStore* store, Turn turn) : store_(store), turn_(std::move(turn)) {}

  Status wait(Waiting* op) {
    for (int turns = 0; !op->over && turns < 1'000'000; ++turns) {
      if (!turn_()) break;
    }
    return op->over ? op->status : error(StatusCode::kInternal, "the operation never ended");
  }

  PutSpec spec_of(const TestObject& object, Durability durability) const {
    PutSpec spec;
    spec.ns = ns;
    spec.key = object.key;
    spec.user_meta = "object " + std::to_string(object.number);
    spec.durability = durability;
    spec.namespace_bytes_max = quota;
    for (uint64_t bytes : object.section_bytes) {
      spec.sections.push_back({SectionKind::raw, Codec::identity, 0, bytes});
    }
    return spec;
  }

  /// Copies the bytes in and reports them landed.
  Status fill(ChunkWriter* writer, const TestObject& object) {
    for (uint32_t s = 0; s < object.section_bytes.size(); ++s) {
      const std::vector<std::byte> bytes = object.section(s);
      size_t at = 0;
      for (const iovec& run : store_->memory(writer, s, 0, bytes.size())) {
        std::memcpy(run.iov_base, bytes.data() + at, run.iov_len);
        at += run.iov_len;
      }
      std::vector<uint32_t> crcs;
      for (uint32_t u = 0; u < units_of(bytes.size()); ++u) {
        const auto unit = std::span(bytes).subspan(size_t{u} * kCrcUnitBytes);
        crcs.push_back(
            unit_crc(object.key, s, u, unit.first(std::min<size_t>(kCrcUnitBytes, unit.size()))));
      }
      TERRACE_RETURN_IF_ERROR(store_->landed(writer, s, 0, crcs));
    }
    return ok_status();
  }

  Status put(const TestObject& object, Durability durability) {
    return put(object, spec_of(object, durability));
  }
  Status put(const TestObject& object, PutSpec spec) {
    ChunkWriter writer;
    Waiting opened;
    TERRACE_RETURN_IF_ERROR(store_->open_writer(std::move(spec), &writer, &opened));
    TERRACE_RETURN_IF_ERROR(wait(&opened));
    TERRACE_RETURN_IF_ERROR(fill(&writer, object));
    Waiting committed;
    TERRACE_RETURN_IF_ERROR(store_->commit(&writer, &committed));
    return wait(&committed);
  }

  /// OK: every byte was read and is right. kInternal: a wrong byte came as if it were right.
  Status get(const TestObject& object, Tier* tier = nullptr) {
    ChunkReader reader;
    Waiting opened;
    TERRACE_RETURN_IF_ERROR(store_->open_reader(ns, object.key, 1, &reader, &opened));
    TERRACE_RETURN_IF_ERROR(wait(&opened));
    if (reader.header().user_meta != "object " + std::to_string(object.number) ||
        reader.header().sections.size() != object.section_bytes.size()) {
      return error(StatusCode::kInternal, "another object's header");
    }
    for (uint32_t s = 0; s < object.section_bytes.size(); ++s) {
      const std::vector<std::byte> want = object.section(s);
      const uint32_t units = units_of(want.size());
      for (uint32_t first = 0; first < units; first += 16) {
        TERRACE_RETURN_IF_ERROR(
            get_units(&reader, s, first, std::min(16u, units - first), want, tier));
      }
    }
    return ok_status();
  }

  Status erase(const TestObject& object) {
    Waiting erased;
    TERRACE_RETURN_IF_ERROR(store_->erase(ns, object.key, &erased));
    return wait(&erased);
  }

  Status close() {
    Waiting closed;
    store_->close(&closed);
    return wait(&closed);
  }
  /// Turns until `settled` is true.
  bool until(const std::function<bool()>& settled) {
    for (int turns = 0; turns < 1'000'000; ++turns) {
      if (settled()) return true;
      if (!turn_()) break;
    }
    return settled();
  }

  NamespaceId ns{1};
  uint64_t quota = 0;

 private:
  Status get_units(ChunkReader* reader, uint32_t s, uint32_t first, uint32_t units,
                   const std::vector<std::byte>& want, Tier* tier) {
    ReadBuffer buffer;
    Waiting read;
    TERRACE_RETURN_IF_ERROR(store_->read(reader, s, first, units, &buffer, &read));
    TERRACE_RETURN_IF_ERROR(wait(&read));
    if (tier != nullptr) *tier = buffer.tier();
    size_t at = size_t{first} * kCrcUnitBytes;
    const size_t end = std::min(at + size_t{units} * kCrcUnitBytes, want.size());
    for (const iovec& piece : buffer.pieces()) {
      if (at + piece.iov_len > end ||
          std::memcmp(piece.iov_base, want.data() + at, piece.iov_len) != 0) {
        return error(StatusCode::kInternal, "a wrong byte");
      }
      at += piece.iov_len;
    }
    return at == end ? ok_status() : error(StatusCode::kInternal, "too few bytes");
  }

  ChunkStore* const store_;
  const Turn turn_;
};
}  // namespace terrace::testing
