// tools/reference_engine/prefix_store.h - what the engine asks of a store of KV: chunks of a token
// sequence, loaded and saved layer by layer while the engine computes. Thread-confined.
//
// Trouble in the store is a miss: it shows in a report and never fails an answer.
#pragma once
#include <array>
#include <chrono>
#include <cstdint>
#include <span>

#include "base/chunk_key.h"
#include "base/status.h"
#include "tools/reference_engine/kv_pool.h"

namespace terrace {

struct LoadReport {
  uint32_t expected_chunks = 0;  // that begin_load promised
  uint32_t chunks = 0;           // of those, leading ones that are whole and verified
  uint64_t bytes = 0;
  std::array<uint64_t, kTierCount> tier_bytes{};
  std::chrono::nanoseconds lookup_elapsed{0};
  std::chrono::nanoseconds fetch_elapsed{0};
  Status status;  // the first thing that went wrong
};

struct SaveReport {
  uint32_t chunks = 0;      // in the store now, as durable as asked for
  uint32_t duplicates = 0;  // of those, there before
  uint32_t failed = 0;
  uint64_t bytes = 0;  // moved
  Status status;       // the first thing that went wrong
};

class PrefixStore {
 public:
  virtual ~PrefixStore() = default;

  /// Starts loading the longest stored run of leading chunks of `tokens`, at most `chunks_max`,
  /// into `sequence`, which must live until finish_load. How many chunks are on their way.
  virtual uint32_t begin_load(std::span<const uint32_t> tokens, uint32_t chunks_max,
                              const Sequence& sequence) = 0;
  /// Blocks, by a bound, until `layer` is in place for every chunk that can still succeed. Which
  /// chunks failed only finish_load can tell.
  virtual Status wait_layer(uint32_t layer) = 0;
  /// Ends the load: nothing writes to the sequence any more.
  virtual LoadReport finish_load() = 0;

  /// Saves chunks of `tokens` out of `sequence`; both must live until finish_save.
  virtual void begin_save(std::span<const uint32_t> tokens, const Sequence& sequence) = 0;
  /// The engine starts on full chunk `chunk`; then says which of its layers are final, in order.
  virtual void begin_chunk(uint32_t chunk) = 0;
  virtual void layer_computed(uint32_t chunk, uint32_t layer) = 0;
  /// Waits, by a bound, for everything begun.
  virtual SaveReport finish_save() = 0;
};
}  // namespace terrace
