// storage/handles.h - what the handles of storage/chunk_store.h hide. Not seen outside the room.
#pragma once
#include <cstdint>
#include <memory>

#include "storage/chunk_store.h"
#include "storage/puts.h"
#include "storage/read_promotion.h"
#include "storage/staging.h"

namespace terrace {

struct ReadBuffer::Hold {
  std::shared_ptr<StagingLease> lease;
  std::shared_ptr<ArenaSpace> arena;  // of a copy that comes into being
};

struct ChunkReader::State {
  ChunkStore::Core* core = nullptr;
  uint32_t id = 0;     // pinned
  uint64_t owner = 0;  // of its staging buffers
  uint64_t bytes_staged = 0;
  bool counted = false;                      // as one hit for promotion
  std::unique_ptr<ReadPromotion> promotion;  // null: staging buffers serve
  Tier loaded_from = Tier::dram;             // shared: this reader had its bytes brought to dram
};

struct ChunkWriter::State {
  ChunkStore::Core* core = nullptr;
  std::shared_ptr<Put> put;
};
}  // namespace terrace
