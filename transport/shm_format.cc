#include "transport/shm_format.h"

#include <string>

#include "base/bytes.h"
#include "base/limits.h"

namespace terrace {
namespace {

constexpr uint64_t kFileBytesMax = uint64_t{1} << 40;
constexpr uint64_t kPageBytes = 4096;
constexpr size_t kHeadBytes = 8 + 8 + 4 + 4 + 4 + 4;  // ref, answers, bytes, spans, pieces, zero
constexpr size_t kPieceBytes = 24;

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::vector<std::byte> bytes_of(const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  return {bytes.begin(), bytes.end()};
}

Status bad(const std::string& what) {
  return error(StatusCode::kInvalidArgument, "shared-memory transfer: " + what);
}

/// Lengths are not 0 and sum to `bytes`; no range overflows.
template <class Range>
Status check_sum(const std::vector<Range>& ranges, uint64_t bytes, const char* what) {
  uint64_t left = bytes;
  for (const Range& range : ranges) {
    if (range.length == 0 || range.length > left || range.offset > UINT64_MAX - range.length) {
      return bad(std::string(what) + " of " + std::to_string(range.length) + " bytes at " +
                 std::to_string(range.offset) + ", " + std::to_string(left) + " left");
    }
    left -= range.length;
  }
  return left == 0 ? ok_status() : bad(std::string(what) + "s are too short");
}
}  // namespace

std::string pack_pieces(std::span<const ShmPiece> pieces) {
  ByteWriter out;
  for (const ShmPiece& piece : pieces) {
    out.u64(piece.file);
    out.u64(piece.offset);
    out.u64(piece.length);
  }
  return out.take();
}

StatusOr<std::vector<ShmPiece>> unpack_pieces(std::string_view bytes) {
  if (bytes.size() % kPieceBytes != 0)
    return bad(std::to_string(bytes.size()) + " bytes of pieces");
  std::vector<ShmPiece> pieces;
  ByteReader in(bytes);
  while (in.left() > 0) {
    const uint64_t file = in.u64();
    const uint64_t offset = in.u64();
    pieces.push_back({file, offset, in.u64()});
  }
  return pieces;
}

std::vector<std::byte> encode(const ShmTransfer& transfer) {
  ByteWriter out;
  out.u64(transfer.ref);
  out.u64(transfer.answers);
  out.u32(transfer.bytes);
  out.u32(static_cast<uint32_t>(transfer.spans.size()));
  out.u32(static_cast<uint32_t>(transfer.pieces.size()));
  out.u32(0);
  for (const RemoteSpan& span : transfer.spans) {
    out.u64(static_cast<uint64_t>(span.region));
    out.u64(span.offset);
    out.u64(span.length);
  }
  out.raw(pack_pieces(transfer.pieces));
  std::vector<std::byte> encoded = bytes_of(out.take());
  encoded.insert(encoded.end(), transfer.body.begin(), transfer.body.end());
  return encoded;
}

StatusOr<ShmTransfer> decode_shm_transfer(FrameType type, std::span<const std::byte> body) {
  if (body.size() < kHeadBytes) return bad(std::to_string(body.size()) + " bytes of body");
  ByteReader in(text_of(body));
  ShmTransfer out;
  out.ref = in.u64();
  out.answers = in.u64();
  out.bytes = in.u32();
  const uint32_t spans = in.u32();
  const uint32_t pieces = in.u32();
  const uint32_t zero = in.u32();
  const bool is_write = type == FrameType::shm_write;
  if (zero != 0 || out.ref == 0) return bad("a field that must be zero, or one that must not");
  if (out.bytes > kFramePayloadBytesMax || (out.bytes == 0 && !is_write)) {
    return bad(std::to_string(out.bytes) + " bytes");
  }
  if (spans > kFramesFragmentsMax || pieces > kShmPiecesMax ||
      body.size() - kHeadBytes < spans * kRemoteSpanBytes + pieces * kPieceBytes) {
    return bad(std::to_string(spans) + " spans and " + std::to_string(pieces) + " pieces in " +
               std::to_string(body.size()) + " bytes");
  }
  for (uint32_t i = 0; i < spans; ++i) {
    const auto region = static_cast<RegionId>(in.u64());
    const uint64_t offset = in.u64();
    out.spans.push_back({region, offset, in.u64()});
  }
  TERRACE_ASSIGN_OR_RETURN(out.pieces, unpack_pieces(in.raw(pieces * kPieceBytes)));
  out.body = body.subspan(kHeadBytes + spans * kRemoteSpanBytes + pieces * kPieceBytes);
  const bool wants_spans = type != FrameType::shm_read_data;
  const bool wants_pieces = type != FrameType::shm_read;
  if ((!wants_spans && spans > 0) || (!wants_pieces && pieces > 0) ||
      (!is_write && !out.body.empty())) {
    return bad("parts that do not belong to its type");
  }
  if (wants_spans) TERRACE_RETURN_IF_ERROR(check_sum(out.spans, out.bytes, "span"));
  if (wants_pieces) TERRACE_RETURN_IF_ERROR(check_sum(out.pieces, out.bytes, "piece"));
  return out;
}

std::vector<std::byte> encode(const ShmFileFacts& facts) {
  ByteWriter out;
  out.u64(facts.offset);
  out.u64(facts.bytes);
  return bytes_of(out.take());
}

StatusOr<ShmFileFacts> decode_shm_file(std::span<const std::byte> body) {
  if (body.size() != kShmFileFactsBytes) return bad("file facts of a wrong size");
  ByteReader in(text_of(body));
  ShmFileFacts facts;
  facts.offset = in.u64();
  facts.bytes = in.u64();
  if (facts.bytes == 0 || facts.bytes > kFileBytesMax || facts.offset > kFileBytesMax ||
      facts.offset % kPageBytes != 0) {
    return bad("a file of " + std::to_string(facts.bytes) + " bytes at " +
               std::to_string(facts.offset));
  }
  return facts;
}
}  // namespace terrace
