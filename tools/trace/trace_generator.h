// tools/trace/trace_generator.h - a trace of the shape of a real one, from a seed: for tests and
// for trying things where no trace is at hand. The same on every machine. Pure.
//
// Conversations arrive over time, share a system prompt with others of their kind, and come back
// after a while with their whole history and some new tokens; the last block is often partial.
#pragma once
#include <cstdint>
#include <vector>

#include "tools/trace/trace.h"

namespace terrace {

struct TraceShape {
  uint32_t requests = 1000;
  uint32_t block_tokens = 512;
  double requests_per_second = 3.0;
  uint32_t system_prompts = 4;            // shared beginnings
  uint32_t system_prompt_blocks = 2;      // of each
  uint32_t new_blocks_max = 24;           // of one turn
  uint32_t return_percent = 45;           // requests that continue a conversation
  uint32_t blocks_per_request_max = 256;  // longer conversations end
};

/// In order of time.
std::vector<TraceRequest> generate_trace(const TraceShape& shape, uint64_t seed);
}  // namespace terrace
