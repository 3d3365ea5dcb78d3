// Goal: no bytes on a data connection, however hostile, crash the frame parser, make it allocate
// beyond its bounds, or make it write outside registered memory.
// Method: the input is a stream; byte 0 picks the lane, byte 1 the sizes of the pieces it comes in.
// Header checksums are made right first, so that the fuzzer gets past them. Guards around the
// region.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/limits.h"
#include "base/prng.h"
#include "transport/frame_receiver.h"
#include "transport/region_table.h"
#include "transport/shm_format.h"
#include "transport/wire_format.h"

namespace terrace {
namespace {

constexpr size_t kGuardBytes = 64;
constexpr size_t kRegionBytes = 4096;
constexpr std::byte kGuard{0xA5};
constexpr uint32_t kTransferBytes = 32 + 24 + 24;  // one span, one piece

/// Does with frames what a peer does: every span is decoded and resolved before a byte lands.
class Landing final : public FrameSink {
 public:
  Landing() : memory_(kRegionBytes + 2 * kGuardBytes, kGuard) {
    const StatusOr<RegionId> id =
        regions_.add(std::span(memory_).subspan(kGuardBytes, kRegionBytes));
    TERRACE_CHECK(id.ok());
  }
  Status frame_begins(const FrameHeader& header, std::span<const std::byte> body,
                      std::vector<iovec>* places) override {
    TERRACE_CHECK(body.size() == header.body_bytes && body.size() <= kBodyBytesMax);
    TERRACE_CHECK(header.payload_bytes <= kFramePayloadBytesMax);
    if (header.type == FrameType::hello)
      return decode_hello(body).ok() ? ok_status() : Status(StatusCode::kInvalidArgument);
    if (header.type >= FrameType::shm_write && header.type <= FrameType::shm_read_data) {
      return shm_transfer(header.type, body);
    }
    if (header.type == FrameType::shm_map) return decode_shm_file(body).status();
    const bool read = header.type == FrameType::read;
    if (header.type != FrameType::write && !read) return ok_status();
    TERRACE_CHECK(header.kind <= kFramesFragmentsMax);
    spans_.resize(header.kind);
    TERRACE_RETURN_IF_ERROR(
        decode_spans(body, spans_, read ? header.immediate : header.payload_bytes));
    std::vector<iovec> memory;
    TERRACE_RETURN_IF_ERROR(regions_.resolve(spans_, &memory));
    if (!read) *places = memory;
    return ok_status();
  }
  Status frame_ends(const FrameHeader&, std::span<const std::byte> body) override {
    for (const std::byte b : body) sum_ += std::to_integer<uint64_t>(b);  // readable to the end
    return ok_status();
  }
  void check_guards() const {
    const auto guarded = [this](size_t from) {
      return std::all_of(memory_.begin() + static_cast<ptrdiff_t>(from),
                         memory_.begin() + static_cast<ptrdiff_t>(from + kGuardBytes),
                         [](std::byte b) { return b == kGuard; });
    };
    TERRACE_CHECK(guarded(0) && guarded(kGuardBytes + kRegionBytes));
  }

 private:
  Status shm_transfer(FrameType type, std::span<const std::byte> body) {
    TERRACE_ASSIGN_OR_RETURN(const ShmTransfer transfer, decode_shm_transfer(type, body));
    TERRACE_CHECK(transfer.bytes <= kFramePayloadBytesMax);
    TERRACE_CHECK(transfer.pieces.size() <= kShmPiecesMax);
    for (const ShmPiece& piece : transfer.pieces) {
      TERRACE_CHECK(piece.length <= transfer.bytes && piece.offset + piece.length > piece.offset);
    }
    std::vector<iovec> memory;
    return regions_.resolve(transfer.spans, &memory);
  }

  std::vector<std::byte> memory_;
  RegionTable regions_;
  std::vector<RemoteSpan> spans_;
  uint64_t sum_ = 0;
};

/// Gives every header that starts with the magic the checksum it should have.
void seal_headers(std::span<std::byte> stream) {
  for (size_t at = 0; at + kFrameHeaderBytes <= stream.size(); ++at) {
    if (std::memcmp(stream.data() + at, "TRRC", 4) != 0) continue;
    const uint32_t crc = crc32c(stream.subspan(at, kFrameHeaderBytes - 4));
    for (size_t i = 0; i < 4; ++i) {
      stream[at + kFrameHeaderBytes - 4 + i] = static_cast<std::byte>((crc >> (8 * i)) & 0xFF);
    }
    at += kFrameHeaderBytes - 1;
  }
}

Status feed(FrameReceiver* receiver, std::span<const std::byte> stream, uint8_t pieces) {
  Prng prng(pieces);
  while (!stream.empty()) {
    size_t left = std::min<size_t>(1 + prng.below(size_t{1} << (pieces % 13)), stream.size());
    size_t took = 0;
    for (const iovec& place : receiver->want(1 + prng.below(5000))) {
      const size_t bytes = std::min(left, place.iov_len);
      if (bytes > 0) std::memcpy(place.iov_base, stream.data() + took, bytes);
      took += bytes;
      left -= bytes;
    }
    TERRACE_CHECK(took > 0);
    stream = stream.subspan(took);
    TERRACE_RETURN_IF_ERROR(receiver->received(took));
    if (prng.chance(2)) receiver->discard_payload();
  }
  return ok_status();
}
}  // namespace
}  // namespace terrace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace terrace;
  if (size < 2) return 0;
  constexpr FrameLane kLanes[] = {FrameLane::hello,    FrameLane::hello_ok, FrameLane::nothing,
                                  FrameLane::messages, FrameLane::data,     FrameLane::shm};
  std::vector<std::byte> stream(size - 2);
  if (size > 2) std::memcpy(stream.data(), data + 2, size - 2);
  // As it is: the decoders alone.
  if (stream.size() >= kFrameHeaderBytes) {
    (void)decode_header(std::span(stream).first<kFrameHeaderBytes>());
  }
  (void)decode_hello(stream);
  (void)decode_shm_file(stream);
  std::vector<RemoteSpan> spans(data[0] % 8);
  (void)decode_spans(stream, spans, data[1]);
  // As a stream.
  seal_headers(stream);
  std::vector<std::byte> discard(100);
  Landing landing;
  FrameReceiver receiver(&landing, discard);
  receiver.set_lane(kLanes[data[0] % std::size(kLanes)]);
  (void)feed(&receiver, stream, data[1]);
  landing.check_guards();
  return 0;
}

/// One good frame of each type, on its lane.
extern "C" size_t TerraceFuzzSeed(size_t i, uint8_t* out, size_t out_max) {
  using namespace terrace;
  using enum FrameType;
  struct Seed {
    uint8_t lane;
    FrameHeader header;
  };
  static const Seed kSeeds[] = {
      {0, {.type = hello, .body_bytes = kHelloBytes}},
      {1, {.type = hello_ok}},
      {3, {.type = message, .kind = 1, .tag = 7, .body_bytes = 40}},
      {3, {.type = message, .kind = 2, .tag = 8}},
      {4, {.type = write, .kind = 2, .body_bytes = 60, .payload_bytes = 200, .immediate = 3}},
      {4, {.type = write}},
      {4, {.type = read, .kind = 1, .body_bytes = 24, .immediate = 100}},
      {4, {.type = read_data, .payload_bytes = 50}},
      {4, {.type = read_error, .immediate = 5}},
      {5, {.type = shm_write, .body_bytes = kTransferBytes}},
      {5, {.type = shm_map, .tag = 4, .body_bytes = kShmFileFactsBytes}},
      {5, {.type = shm_done, .tag = 4}},
  };
  if (i >= std::size(kSeeds)) return 0;
  const FrameHeader& header = kSeeds[i].header;
  std::vector<std::byte> body(header.body_bytes);
  if (header.type == hello) {
    const auto hello_bytes = encode(Hello{.secret = {}, .connection = 1, .connections = 2});
    std::copy(hello_bytes.begin(), hello_bytes.end(), body.begin());
  } else if (header.type == shm_write) {
    body = encode(ShmTransfer{
        .ref = 1, .bytes = 9, .spans = {{RegionId{1}, 16, 9}}, .pieces = {{kAreaFile, 5, 9}}});
    TERRACE_CHECK(body.size() == kTransferBytes);
  } else if (header.type == shm_map) {
    body = encode(ShmFileFacts{4096, kRegionBytes});
  } else if (header.kind > 0 && header.type != message) {
    const uint64_t wanted = header.type == read ? header.immediate : header.payload_bytes;
    std::vector<RemoteSpan> spans(header.kind, {RegionId{1}, 16, wanted / header.kind});
    encode(spans, body);
  }
  const size_t total = 2 + kFrameHeaderBytes + body.size() + header.payload_bytes;
  TERRACE_CHECK(total <= out_max);
  std::memset(out, 0x11, total);
  out[0] = kSeeds[i].lane;
  out[1] = 6;
  const FrameHeaderBytes encoded = encode(header);
  std::memcpy(out + 2, encoded.data(), encoded.size());
  if (!body.empty()) std::memcpy(out + 2 + kFrameHeaderBytes, body.data(), body.size());
  return total;
}
