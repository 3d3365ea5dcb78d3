// transport/shm_format.h - bodies of the frames that a shared-memory session adds to wire_format.h:
// transfers that name memory files instead of carrying payload. Every byte is specified in
// docs/formats.md. Pure functions.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/region.h"
#include "base/status.h"
#include "transport/wire_format.h"

namespace terrace {

/// Names the sender's area, which its peer mapped during the handshake.
inline constexpr uint64_t kAreaFile = ~uint64_t{0};
inline constexpr size_t kShmPiecesMax = 1024;  // of one transfer

/// Bytes of a memory file of the sender.
struct ShmPiece {
  uint64_t file = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
  bool operator==(const ShmPiece&) const = default;
};

std::string pack_pieces(std::span<const ShmPiece> pieces);
/// kInvalidArgument: no whole number of pieces.
StatusOr<std::vector<ShmPiece>> unpack_pieces(std::string_view bytes);

/// A transfer that is announced: a write, a read that is asked for, or what answers it.
struct ShmTransfer {
  uint64_t ref = 0;                   // names it between the two; the sender's
  uint64_t answers = 0;               // read_data: the ref of the read
  uint32_t bytes = 0;                 // 0 (of a write) to kFramePayloadBytesMax
  std::vector<RemoteSpan> spans{};    // of the receiver's regions
  std::vector<ShmPiece> pieces{};     // where the bytes lie
  std::span<const std::byte> body{};  // of the upper room
};
std::vector<std::byte> encode(const ShmTransfer& transfer);
/// `body` outlives the result. kInvalidArgument: truncated, over a limit, or spans or pieces that
/// do not add up to the bytes.
StatusOr<ShmTransfer> decode_shm_transfer(FrameType type, std::span<const std::byte> body);

/// Where the data of a file that comes along begins, and how much it is.
struct ShmFileFacts {
  uint64_t offset = 0;  // a multiple of the page size
  uint64_t bytes = 0;
};
inline constexpr size_t kShmFileFactsBytes = 16;
std::vector<std::byte> encode(const ShmFileFacts& facts);
/// kInvalidArgument: a wrong size, nothing, over a TiB, or an offset that no mapping can have.
StatusOr<ShmFileFacts> decode_shm_file(std::span<const std::byte> body);
}  // namespace terrace
