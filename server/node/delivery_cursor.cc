#include "server/node/delivery_cursor.h"

#include <algorithm>

#include "base/limits.h"

namespace terrace {

DeliveryCursor::DeliveryCursor(std::vector<Item> items)
    : items_(std::move(items)), positions_(items_.size()) {
  for (const Item& item : items_) {
    if (item.layout != nullptr) sections_max_ = std::max(sections_max_, item.sections);
  }
}

bool DeliveryCursor::next(Piece* piece) {
  for (; section_ < sections_max_; ++section_, item_ = 0) {
    for (; item_ < items_.size(); ++item_) {
      if (items_[item_].layout == nullptr || section_ >= items_[item_].sections) continue;
      if (cut(item_, piece)) return true;
    }
  }
  return false;
}

bool DeliveryCursor::cut(uint32_t index, Piece* piece) {
  const Item& item = items_[index];
  Position& position = positions_[index];
  const uint64_t begin = item.layout->logical_offset(section_);
  const uint64_t end = section_ + 1 < item.sections ? item.layout->logical_offset(section_ + 1)
                                                    : item.layout->logical_bytes();
  const std::vector<ByteRange>& runs = item.map->runs();
  while (position.run < runs.size() && runs[position.run].end() <= position.at) ++position.run;
  if (position.run == runs.size()) return false;
  const uint64_t from = std::max({position.at, runs[position.run].offset, begin});
  if (from >= end) return false;

  const uint64_t first_unit = (from - begin) / kCrcUnitBytes;
  const uint64_t frame_end = begin + first_unit * kCrcUnitBytes + kFramePayloadBytesMax;
  const uint64_t to = std::min({runs[position.run].end(), end, frame_end});
  piece->targets.clear();
  uint64_t bytes = item.map->locate({from, to - from}, kFramesFragmentsMax, &piece->targets);
  if (from + bytes < to) {  // too many places: end on a unit if there is a whole one
    const uint64_t unit_end = (from + bytes - begin) / kCrcUnitBytes * kCrcUnitBytes + begin;
    if (unit_end > from && unit_end < from + bytes) {
      piece->targets.clear();
      bytes = item.map->locate({from, unit_end - from}, kFramesFragmentsMax, &piece->targets);
    }
  }
  piece->item = index;
  piece->section = section_;
  piece->offset = from - begin;
  piece->object_offset = from;
  piece->bytes = static_cast<uint32_t>(bytes);
  position.at = from + bytes;
  return true;
}
}  // namespace terrace
