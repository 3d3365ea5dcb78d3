// transport/transfer_check.h - what every transport asks of a transfer before it accepts it. Pure.
#pragma once
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/limits.h"
#include "base/region.h"
#include "base/status.h"

namespace terrace {

inline constexpr size_t kBorrowedPiecesMax = 1024;  // local pieces of one transfer

/// Appends the pieces that are not empty; the total, or SIZE_MAX when it is over the frame's limit.
inline size_t copy_pieces(std::span<const iovec> from, std::vector<iovec>* to) {
  size_t total = 0;
  to->reserve(from.size());
  for (const iovec& piece : from) {
    if (piece.iov_len > kFramePayloadBytesMax - total) return SIZE_MAX;
    total += piece.iov_len;
    if (piece.iov_len > 0) to->push_back(piece);
  }
  return total;
}

/// kInvalidArgument: over a limit, an empty remote span, or totals that differ.
inline Status check_transfer(std::span<const RemoteSpan> spans, size_t pieces, size_t local_bytes) {
  uint64_t left = local_bytes;
  if (local_bytes > kFramePayloadBytesMax || pieces > kBorrowedPiecesMax ||
      spans.size() > kFramesFragmentsMax) {
    return error(StatusCode::kInvalidArgument,
                 "a transfer has at most 1 MiB, 256 remote and 1024 local pieces");
  }
  for (const RemoteSpan& span : spans) {
    if (span.length == 0 || span.length > left) {
      return error(StatusCode::kInvalidArgument, "remote and local bytes of a transfer differ");
    }
    left -= span.length;
  }
  if (left == 0) return ok_status();
  return error(StatusCode::kInvalidArgument, "remote and local bytes of a transfer differ");
}

/// Whether one of `pieces` shares a byte with `memory`.
inline bool overlaps(std::span<const iovec> pieces, std::span<const std::byte> memory) {
  const auto begin = reinterpret_cast<uintptr_t>(memory.data());
  for (const iovec& piece : pieces) {
    const auto at = reinterpret_cast<uintptr_t>(piece.iov_base);
    if (at < begin + memory.size() && begin < at + piece.iov_len) return true;
  }
  return false;
}
}  // namespace terrace
