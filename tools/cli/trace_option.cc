#include "tools/cli/trace_option.h"

#include "tools/trace/trace_generator.h"
#include "tools/trace/trace_reader.h"

namespace terrace {
namespace {

/// The last id of a request is a partial block when its tokens do not fill it.
void drop_tail(uint32_t block_tokens, TraceRequest* request) {
  if (request->input_tokens < request->block_ids.size() * uint64_t{block_tokens} &&
      !request->block_ids.empty()) {
    request->block_ids.pop_back();
  }
}
}  // namespace

void TraceOption::add_to(CLI::App* command) {
  command
      ->add_option("--trace", name,
                   "Mooncake or Qwen-Bailian JSONL, or .kvt, plain or .zst; or: generated")
      ->required();
  command->add_option("--requests", requests_max, "At most so many; 0: all")
      ->check(CLI::Range(uint64_t{0}, uint64_t{100'000'000}))
      ->capture_default_str();
  command->add_flag("--drop-partial-tail", drop_partial_tail,
                    "Leave out a request's last block when its tokens do not fill it");
}

StatusOr<LoadedTrace> TraceOption::load(uint64_t seed) const {
  LoadedTrace out;
  if (name == "generated") {
    TraceShape shape;
    if (requests_max > 0) shape.requests = static_cast<uint32_t>(requests_max);
    out.requests = generate_trace(shape, seed);
    out.block_tokens = shape.block_tokens;
  } else {
    TERRACE_ASSIGN_OR_RETURN(TraceReader reader, TraceReader::open(name));
    out.block_tokens = reader.block_tokens();
    TraceRequest request;
    while (requests_max == 0 || out.requests.size() < requests_max) {
      TERRACE_ASSIGN_OR_RETURN(const bool more, reader.next(&request));
      if (!more) break;
      out.requests.push_back(request);
    }
  }
  if (drop_partial_tail) {
    for (TraceRequest& request : out.requests) drop_tail(out.block_tokens, &request);
  }
  return out;
}
}  // namespace terrace
