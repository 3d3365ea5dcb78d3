// storage/read_promotion.h - a copy in dram that comes into being while somebody reads the object:
// its reads go to the arena instead of to staging buffers, and when every unit was read and was
// right the copy is there. So the device is read once, and the reader waits for nothing.
// Thread-confined; not seen outside the room.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "storage/core.h"

namespace terrace {

class ReadPromotion {
 public:
  /// For an object of `units` units that lies in no dram and that its reader has pinned. `header`:
  /// its encoded header, verified. Null: it was not read often enough yet, is not worth what would
  /// have to leave, there is no room, another promotion of it runs, or too much is coming in.
  static std::unique_ptr<ReadPromotion> begin(ChunkStore::Core* core, uint32_t id,
                                              std::span<const std::byte> header, uint32_t units);
  ReadPromotion(const ReadPromotion&) = delete;
  ReadPromotion& operator=(const ReadPromotion&) = delete;
  /// Without all units it comes to nothing; what was read into the space goes with its holders.
  ~ReadPromotion();

  /// Where the object's bytes belong.
  const std::shared_ptr<ArenaSpace>& space() const { return space_; }
  /// Whether a read of these units, counted over all sections, may write to their place: once each,
  /// for whoever was shown a unit must not see it written again.
  bool claim(uint32_t first_unit, uint32_t units);
  /// These units, which were claimed, are in place and right.
  void arrived(uint32_t units);

 private:
  ReadPromotion(ChunkStore::Core* core, uint32_t id, std::shared_ptr<ArenaSpace> space,
                uint32_t units);
  void finish();

  ChunkStore::Core* const core_;
  const uint32_t id_;
  const std::shared_ptr<ArenaSpace> space_;
  std::vector<bool> claimed_;  // by unit
  uint32_t missing_;           // units
};
}  // namespace terrace
