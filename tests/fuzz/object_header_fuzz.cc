// Goal: no bytes on a medium make the object header's or the index row's parser crash, read outside
// its input, or accept what it would not write. Method: every input goes through all parsers; what
// is accepted is encoded again and must decode to the same.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "storage/data_file.h"
#include "storage/metadata_store.h"
#include "storage/object_format.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace terrace;
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size));
  const StatusOr<uint64_t> header_size = header_size_of(bytes);
  if (header_size.ok()) TERRACE_CHECK(*header_size % 4096 == 0 && *header_size <= kHeaderBytesMax);
  const StatusOr<ObjectHeader> header = decode_object_header(bytes);
  if (header.ok()) {
    TERRACE_CHECK(header_size.ok() && *header_size <= size);
    std::vector<std::byte> again(*header_size);
    encode(*header, again);
    const StatusOr<ObjectHeader> back = decode_object_header(again);
    TERRACE_CHECK(back.ok() && *back == *header);
  }
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t split = size < kRowKeyBytes ? size : kRowKeyBytes;
  const StatusOr<MetadataRow> row = decode_row(text.substr(0, split), text.substr(split));
  if (row.ok()) TERRACE_CHECK(encode_row(*row) == text.substr(split));
  const StatusOr<DataFileIdentity> identity = decode_identity(bytes);
  if (identity.ok()) TERRACE_CHECK(size >= 64);
  return 0;
}
