#include "transport/transfer_check.h"

#include <algorithm>
#include <cstdint>

#include "base/limits.h"

namespace terrace {
namespace {

constexpr size_t kBorrowedPiecesMax = 1024;
}  // namespace

size_t copy_pieces(std::span<const iovec> from, std::vector<iovec>* to) {
  size_t total = 0;
  to->reserve(from.size());
  for (const iovec& piece : from) {
    if (piece.iov_len > kFramePayloadBytesMax - total) return SIZE_MAX;
    total += piece.iov_len;
    if (piece.iov_len > 0) to->push_back(piece);
  }
  return total;
}

Status check_transfer(std::span<const RemoteSpan> spans, size_t pieces, size_t local_bytes) {
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

bool overlaps(std::span<const iovec> pieces, std::span<const std::byte> memory) {
  return std::any_of(pieces.begin(), pieces.end(), [memory](const iovec& piece) {
    const auto* base = static_cast<const std::byte*>(piece.iov_base);
    return base < memory.data() + memory.size() && memory.data() < base + piece.iov_len;
  });
}
}  // namespace terrace
