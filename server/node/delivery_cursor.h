// server/node/delivery_cursor.h - cuts a fetch into data frames, layer by layer over all its items.
// Pure: no I/O, no clock.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/region.h"
#include "proto/fragment_map.h"
#include "storage/object_format.h"

namespace terrace {

/// One data frame's worth of one section.
struct Piece {
  uint32_t item = 0;
  uint32_t section = 0;
  uint64_t offset = 0;         // in the section
  uint64_t object_offset = 0;  // in the object's logical bytes
  uint32_t bytes = 0;
  std::vector<RemoteSpan> targets;
};

class DeliveryCursor {
 public:
  struct Item {
    const ObjectLayout* layout = nullptr;  // null: an item that delivers nothing
    uint32_t sections = 0;
    const FragmentMap* map = nullptr;
  };
  explicit DeliveryCursor(std::vector<Item> items);
  /// The next piece: section 0 of every item, then section 1, ... Pieces end on CRC units and hold
  /// at most kFramePayloadBytesMax, except where the request itself cuts a unit or scatters it over
  /// more than kFramesFragmentsMax places. False at the end.
  bool next(Piece* piece);
  /// Delivers nothing more of `item`.
  void drop(uint32_t item) { items_[item].layout = nullptr; }

 private:
  struct Position {
    size_t run = 0;
    uint64_t at = 0;  // logical bytes before this are done
  };
  bool cut(uint32_t item, Piece* piece);
  std::vector<Item> items_;
  std::vector<Position> positions_;
  uint32_t sections_max_ = 0;
  uint32_t section_ = 0;
  uint32_t item_ = 0;
};
}  // namespace terrace
