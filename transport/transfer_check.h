// transport/transfer_check.h - what every transport asks of a transfer before it takes it. Pure.
#pragma once
#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <vector>

#include "base/region.h"
#include "base/status.h"

namespace terrace {

/// Copies the pieces that are not empty; the total, or SIZE_MAX when it is over the frame's limit.
size_t copy_pieces(std::span<const iovec> from, std::vector<iovec>* to);
/// kInvalidArgument: over kFramePayloadBytesMax, too many spans or pieces, or totals that differ.
Status check_transfer(std::span<const RemoteSpan> spans, size_t pieces, size_t local_bytes);
/// Whether some of `pieces` lies in `memory`.
bool overlaps(std::span<const iovec> pieces, std::span<const std::byte> memory);
}  // namespace terrace
