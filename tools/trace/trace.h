// tools/trace/trace.h - one request of a trace, and the bounds every reader of traces keeps.
//
// Values only. A trace says which blocks of KV each request needs, not what is in them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/clock.h"

namespace terrace {

// What a trace may make a reader hold; past these a line is refused, never truncated.
inline constexpr size_t kTraceLineBytesMax = size_t{8} << 20;
inline constexpr size_t kTraceIdsPerRequestMax = size_t{1} << 20;
inline constexpr uint32_t kTraceBlockTokensMax = 1u << 20;

struct TraceRequest {
  Nanos time{0};          // arrival, from the trace's own zero
  uint32_t category = 0;  // the source's; 0 when it has none
  int64_t turn = -1;      // -1: the source has none
  int64_t session = -1;
  uint64_t input_tokens = 0;
  uint64_t output_tokens = 0;
  /// Equal ids are equal KV. Usually prefix-chained, but not always: an id may follow different
  /// predecessors, so an index must not assume that ids are prefix-closed.
  std::vector<uint64_t> block_ids;
  bool operator==(const TraceRequest&) const = default;
};

enum class TraceFormat : uint8_t { mooncake_jsonl, qwen_jsonl, kvt };
const char* name_of(TraceFormat format);
}  // namespace terrace
