// Goal: no trace file, however hostile, crashes a reader or makes it hold more than its bounds.
// Method: the input is the file, format detection and zstd included.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
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
