// transport/wire_format.h - the frame header in front of everything on a data connection, and the
// fragment table of data frames. Every byte is specified in docs/formats.md; golden tests hold it.
// Integers are little-endian. Pure functions; nothing is allocated before a header was accepted.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/region.h"
#include "base/status.h"

namespace terrace {

enum class FrameType : uint8_t {
  hello = 1,       // body: Hello; the first frame of every connection
  hello_ok = 2,    // body: empty
  message = 3,     // body: one proto message; `kind` says which
  write = 4,       // body: fragment table, then upper body; payload: the bytes, in table order
  read = 5,        // body: fragment table; asks the peer for those bytes
  read_data = 6,   // answers a read, possibly in several frames; payload: the next bytes
  read_error = 7,  // answers a read that cannot be served; `immediate` is the status code
  // Of a shared-memory session, transport/shm_format.h; `tag` of the last five is a ref or a file:
  shm_write = 8,
  shm_read = 9,
  shm_read_data = 10,
  shm_read_error = 11,  // `immediate` is the status code
  shm_done = 12,        // the pieces are free; `immediate` is the status code of a write
  shm_cancel = 13,      // of a write
  shm_map = 14,         // with the file's descriptor
  shm_unmap = 15,
};

//  offset  size  field              offset  size  field
//       0     4  magic "TRRC"           16     4  body_bytes
//       4     1  version                20     4  payload_bytes
//       5     1  type                   24     4  immediate
//       6     2  kind                   28     4  crc32c of bytes [0, 28)
//       8     8  tag
struct FrameHeader {
  static constexpr uint32_t kMagic = 0x43525254;  // "TRRC" in memory order
  static constexpr uint8_t kVersion = 1;
  FrameType type = FrameType::message;
  uint16_t kind = 0;  // message: which message; write: entries of the fragment table
  uint64_t tag = 0;   // the operation this belongs to, chosen by whoever started it
  uint32_t body_bytes = 0;
  uint32_t payload_bytes = 0;
  uint32_t immediate = 0;
  bool operator==(const FrameHeader&) const = default;
};
inline constexpr size_t kFrameHeaderBytes = 32;

using FrameHeaderBytes = std::array<std::byte, kFrameHeaderBytes>;
FrameHeaderBytes encode(const FrameHeader& header);
/// kDataLoss: bad magic or checksum. kFailedPrecondition: another version (names both).
/// kInvalidArgument: unknown type, or body or payload over base/limits.h (names the limit).
StatusOr<FrameHeader> decode_header(std::span<const std::byte, kFrameHeaderBytes> bytes);

/// First frame of a connection: who it belongs to.
struct Hello {
  std::array<std::byte, 16> secret{};  // from OpenSession
  uint32_t connection = 0;             // 0: messages; others: data
  uint32_t connections = 0;            // how many the session will have
};
inline constexpr size_t kHelloBytes = 24;
std::array<std::byte, kHelloBytes> encode(const Hello& hello);
StatusOr<Hello> decode_hello(std::span<const std::byte> body);

/// Fragment table entry: region u64, offset u64, length u64.
inline constexpr size_t kRemoteSpanBytes = 24;
void encode(std::span<const RemoteSpan> spans, std::span<std::byte> into);
/// Reads `spans.size()` entries. kInvalidArgument: a zero length, a sum other than `total_bytes`,
/// an offset + length that overflows, or too few bytes.
Status decode_spans(std::span<const std::byte> bytes, std::span<RemoteSpan> spans,
                    uint64_t total_bytes);
}  // namespace terrace
