// Goal: no trace file, however hostile, crashes a reader or makes it hold more than its bounds.
// Method: the input is the file, format detection and zstd included.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "base/check.h"
#include "tools/trace/trace_format.h"
#include "tools/trace/trace_generator.h"
#include "tools/trace/trace_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int kRequestsMax = 100'000;  // a small zstd frame may unpack to a lot
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  terrace::StatusOr<terrace::TraceReader> reader =
      terrace::TraceReader::read_from(terrace::make_memory_source(bytes), "fuzz");
  if (!reader.ok()) return 0;
  terrace::TraceRequest request;
  for (int i = 0; i < kRequestsMax; ++i) {
    const terrace::StatusOr<bool> more = reader->next(&request);
    if (!more.ok() || !*more) return 0;
    TERRACE_CHECK(request.block_ids.size() <= terrace::kTraceIdsPerRequestMax);
    TERRACE_CHECK(request.time >= terrace::Nanos{0});
  }
  return 0;
}

/// A few lines of each format.
extern "C" size_t TerraceFuzzSeed(size_t i, uint8_t* out, size_t out_max) {
  using namespace terrace;
  TraceShape shape;
  shape.requests = 5;
  std::string kvt = "# block_tokens=512\n";
  std::string mooncake;
  for (const TraceRequest& request : generate_trace(shape, 1)) {
    kvt += to_kvt_line(request) + "\n";
    mooncake += to_mooncake_line(request) + "\n";
  }
  const std::string qwen =
      R"({"chat_id":1,"parent_chat_id":-1,"timestamp":0.5,"input_length":40,"output_length":3,)"
      R"("type":"text","turn":1,"hash_ids":[1,2,3]})"
      "\n";
  const std::string seeds[] = {kvt, mooncake, qwen};
  if (i >= std::size(seeds)) return 0;
  TERRACE_CHECK(seeds[i].size() <= out_max);
  std::memcpy(out, seeds[i].data(), seeds[i].size());
  return seeds[i].size();
}
