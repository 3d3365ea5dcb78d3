#include "client/delivery_check.h"

#include <algorithm>
#include <string>

#include "base/crc32c.h"
#include "base/limits.h"

namespace terrace {
namespace {

Status wrong(const Delivery& d, const std::string& what) {
  return error(StatusCode::kInternal, "node delivered " + std::to_string(d.bytes) + " bytes at " +
                                          std::to_string(d.offset) + " of section " +
                                          std::to_string(d.section) + " of item " +
                                          std::to_string(d.item) + " (object offset " +
                                          std::to_string(d.object_offset) + "): " + what);
}

/// Bytes of the delivery in the unit that holds offset `at` of the section, from there on.
uint64_t unit_bytes_at(const Delivery& d, uint64_t at) {
  return std::min(kCrcUnitBytes - at % kCrcUnitBytes, d.offset + d.bytes - at);
}
}  // namespace

bool RangeSet::insert(ByteRange range) {
  auto after = ranges_.lower_bound(range.offset);
  if (after != ranges_.end() && after->first < range.end()) return false;
  if (after != ranges_.begin()) {
    const auto before = std::prev(after);
    if (before->second > range.offset) return false;
    if (before->second == range.offset) {
      before->second = range.end();
      if (after != ranges_.end() && after->first == range.end()) {
        before->second = after->second;
        ranges_.erase(after);
      }
      return true;
    }
  }
  uint64_t end = range.end();
  if (after != ranges_.end() && after->first == end) {
    end = after->second;
    after = ranges_.erase(after);
  }
  ranges_.emplace_hint(after, range.offset, end);
  return true;
}

bool same_places(std::span<const RemoteSpan> a, std::span<const RemoteSpan> b) {
  size_t i = 0, j = 0;
  uint64_t in_a = 0, in_b = 0;  // bytes consumed of a[i] and b[j]
  while (i < a.size() && j < b.size()) {
    if (a[i].region != b[j].region || a[i].offset + in_a != b[j].offset + in_b) return false;
    const uint64_t step = std::min(a[i].length - in_a, b[j].length - in_b);
    if (step == 0) return false;
    in_a += step;
    in_b += step;
    if (in_a == a[i].length) ++i, in_a = 0;
    if (in_b == b[j].length) ++j, in_b = 0;
  }
  return i == a.size() && j == b.size();
}

DeliveryCheck::DeliveryCheck(std::vector<Item> items, std::shared_ptr<const ObjectShape> shape)
    : items_(std::move(items)),
      shape_(std::move(shape)),
      states_(items_.size()),
      missing_(shape_->layer_source.size()) {
  for (const Item& item : items_) add_needed(item.map);
  advance();
}

void DeliveryCheck::add_needed(const FragmentMap& map) {
  if (shape_->raw()) {
    missing_[0] += map.bytes();
    return;
  }
  size_t section = 0;
  for (const ByteRange& run : map.runs()) {
    while (section > 0 && shape_->section_starts[section] > run.offset) --section;
    for (; section < shape_->sections.size(); ++section) {
      const uint64_t begin = std::max(run.offset, shape_->section_starts[section]);
      const uint64_t end = std::min(run.end(), shape_->section_starts[section + 1]);
      if (begin < end) missing_[shape_->section_layer[section]] += end - begin;
      if (shape_->section_starts[section + 1] >= run.end()) break;
    }
    if (section == shape_->sections.size()) --section;
  }
}

Status DeliveryCheck::check_place(const Delivery& d) {
  if (d.item >= items_.size()) {
    return wrong(d, "the fetch has " + std::to_string(items_.size()) + " items");
  }
  if (d.object_offset < d.offset) return wrong(d, "the section would begin before the object");
  const uint64_t start = d.object_offset - d.offset;
  if (shape_->raw()) {
    const auto [known, is_new] = states_[d.item].section_starts.try_emplace(d.section, start);
    if (d.section >= kSectionsMax || known->second != start) {
      return wrong(d, "the section began at " + std::to_string(known->second) + " before");
    }
  } else if (d.section >= shape_->sections.size() || start != shape_->section_starts[d.section] ||
             d.offset + d.bytes > shape_->sections[d.section].bytes) {
    return wrong(d, "the namespace's chunk has " + std::to_string(shape_->sections.size()) +
                        " sections of " + std::to_string(shape_->bytes()) +
                        " bytes, and this is none of them");
  }
  if (d.crcs.size() != units_touched(d.offset, d.bytes)) {
    return wrong(d, std::to_string(d.crcs.size()) + " checksums");
  }
  return ok_status();
}

Status DeliveryCheck::claim(std::span<const Delivery> deliveries,
                            std::span<const RemoteSpan> targets) {
  std::vector<RemoteSpan> expected;
  for (const Delivery& d : deliveries) {
    TERRACE_RETURN_IF_ERROR(check_place(d));
    const Item& item = items_[d.item];
    const ByteRange range{d.object_offset, d.bytes};
    if (item.map.locate(range, FragmentMap::kNoLimit, &expected) != d.bytes) {
      return wrong(d, "not all of it was asked for");
    }
    if (!states_[d.item].claimed.insert(range)) return wrong(d, "some of it came before");
  }
  if (deliveries.empty() || !same_places(expected, targets)) {
    return error(StatusCode::kInternal, "node would write to other places than the fetch said");
  }
  return ok_status();
}

void DeliveryCheck::unit_lengths(std::span<const Delivery> deliveries,
                                 std::vector<uint32_t>* lengths) {
  for (const Delivery& d : deliveries) {
    for (uint64_t at = d.offset; at < d.offset + d.bytes;) {
      const uint64_t bytes = unit_bytes_at(d, at);
      lengths->push_back(static_cast<uint32_t>(bytes));
      at += bytes;
    }
  }
}

bool DeliveryCheck::matches(const Delivery& d, const RegionUses& memory,
                            std::span<const uint32_t> unit_sums) const {
  const Item& item = items_[d.item];
  std::vector<std::span<const std::byte>> pieces;
  if (unit_sums.empty()) gather(item.map, {d.object_offset, d.bytes}, memory, &pieces);
  PieceReader reader(pieces);
  uint64_t at = d.offset;
  for (size_t i = 0; i < d.crcs.size(); ++i) {
    const auto unit = static_cast<uint32_t>(at / kCrcUnitBytes);
    const auto in_unit = static_cast<uint32_t>(at % kCrcUnitBytes);
    const uint64_t bytes = unit_bytes_at(d, at);
    const uint32_t seed = unit_crc_seed(item.key, d.section, unit, in_unit);
    const uint32_t crc = unit_sums.empty() ? reader.crc_of_next(bytes, seed)
                                           : crc32c_join(seed, unit_sums[i], bytes);
    if (crc != d.crcs[i]) return false;
    at += bytes;
  }
  return true;
}

void DeliveryCheck::landed(std::span<const Delivery> deliveries, const RegionUses& memory,
                           bool verify, std::span<const uint32_t> unit_sums) {
  for (const Delivery& d : deliveries) {
    ItemState& state = states_[d.item];
    const auto sums = unit_sums.first(unit_sums.empty() ? 0 : d.crcs.size());
    unit_sums = unit_sums.subspan(sums.size());
    if (verify && !matches(d, memory, sums)) {
      state.failed = true;
      ++crc_failures_;
      continue;
    }
    if (verify) bytes_verified_ += d.bytes;
    state.bytes_good += d.bytes;
    bytes_good_ += d.bytes;
    tier_bytes_[static_cast<size_t>(d.tier)] += d.bytes;
    missing_[shape_->raw() ? 0 : shape_->section_layer[d.section]] -= d.bytes;
  }
  advance();
}

void DeliveryCheck::advance() {
  while (layers_ready_ < missing_.size() && missing_[layers_ready_] == 0 &&
         missing_[shape_->layer_source[layers_ready_]] == 0) {
    ++layers_ready_;
  }
}

bool DeliveryCheck::whole(size_t item) const {
  return !states_[item].failed && states_[item].bytes_good == items_[item].map.bytes();
}
}  // namespace terrace
