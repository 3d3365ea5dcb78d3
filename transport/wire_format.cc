#include "transport/wire_format.h"

#include <cstring>
#include <string>
#include <type_traits>

#include "base/crc32c.h"
#include "base/limits.h"

namespace terrace {
namespace {

constexpr size_t kVersionAt = 4;
constexpr size_t kTypeAt = 5;
constexpr size_t kKindAt = 6;
constexpr size_t kTagAt = 8;
constexpr size_t kBodyBytesAt = 16;
constexpr size_t kPayloadBytesAt = 20;
constexpr size_t kImmediateAt = 24;
constexpr size_t kCrcAt = 28;
static_assert(kCrcAt + sizeof(uint32_t) == kFrameHeaderBytes);

/// Little-endian whatever the machine is; compilers turn the loops into one move.
template <class T>
void store(std::byte* at, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    at[i] = static_cast<std::byte>((static_cast<uint64_t>(value) >> (8 * i)) & 0xFF);
  }
}

template <class T>
T load(const std::byte* at) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value |= static_cast<uint64_t>(at[i]) << (8 * i);
  return static_cast<T>(value);
}

Status over_limit(const char* what, uint64_t got, uint64_t limit) {
  return error(StatusCode::kInvalidArgument, std::string("frame ") + what + " of " +
                                                 std::to_string(got) + " bytes; the limit is " +
                                                 std::to_string(limit));
}
}  // namespace

FrameHeaderBytes encode(const FrameHeader& header) {
  FrameHeaderBytes out{};
  store(out.data(), FrameHeader::kMagic);
  store(out.data() + kVersionAt, FrameHeader::kVersion);
  store(out.data() + kTypeAt, static_cast<uint8_t>(header.type));
  store(out.data() + kKindAt, header.kind);
  store(out.data() + kTagAt, header.tag);
  store(out.data() + kBodyBytesAt, header.body_bytes);
  store(out.data() + kPayloadBytesAt, header.payload_bytes);
  store(out.data() + kImmediateAt, header.immediate);
  store(out.data() + kCrcAt, crc32c(std::span(out).first(kCrcAt)));
  return out;
}

StatusOr<FrameHeader> decode_header(std::span<const std::byte, kFrameHeaderBytes> bytes) {
  const std::byte* at = bytes.data();
  if (load<uint32_t>(at) != FrameHeader::kMagic) {
    return error(StatusCode::kDataLoss, "frame does not start with TRRC");
  }
  const auto version = load<uint8_t>(at + kVersionAt);
  if (version != FrameHeader::kVersion) {
    return error(StatusCode::kFailedPrecondition, "peer speaks frame version " +
                                                      std::to_string(version) + ", this build " +
                                                      std::to_string(FrameHeader::kVersion));
  }
  if (load<uint32_t>(at + kCrcAt) != crc32c(bytes.first(kCrcAt))) {
    return error(StatusCode::kDataLoss, "frame header with a wrong checksum");
  }
  const auto type = load<uint8_t>(at + kTypeAt);
  if (type < static_cast<uint8_t>(FrameType::hello) ||
      type > static_cast<uint8_t>(FrameType::shm_unmap)) {
    return error(StatusCode::kInvalidArgument, "unknown frame type " + std::to_string(type));
  }
  FrameHeader header{.type = static_cast<FrameType>(type),
                     .kind = load<uint16_t>(at + kKindAt),
                     .tag = load<uint64_t>(at + kTagAt),
                     .body_bytes = load<uint32_t>(at + kBodyBytesAt),
                     .payload_bytes = load<uint32_t>(at + kPayloadBytesAt),
                     .immediate = load<uint32_t>(at + kImmediateAt)};
  if (header.body_bytes > kBodyBytesMax) {
    return over_limit("body", header.body_bytes, kBodyBytesMax);
  }
  if (header.payload_bytes > kFramePayloadBytesMax) {
    return over_limit("payload", header.payload_bytes, kFramePayloadBytesMax);
  }
  return header;
}

std::array<std::byte, kHelloBytes> encode(const Hello& hello) {
  std::array<std::byte, kHelloBytes> out{};
  std::memcpy(out.data(), hello.secret.data(), hello.secret.size());
  store(out.data() + 16, hello.connection);
  store(out.data() + 20, hello.connections);
  return out;
}

StatusOr<Hello> decode_hello(std::span<const std::byte> body) {
  if (body.size() != kHelloBytes) {
    return error(StatusCode::kInvalidArgument,
                 "hello of " + std::to_string(body.size()) + " bytes, not 24");
  }
  Hello hello;
  std::memcpy(hello.secret.data(), body.data(), hello.secret.size());
  hello.connection = load<uint32_t>(body.data() + 16);
  hello.connections = load<uint32_t>(body.data() + 20);
  if (hello.connections > kConnectionsPerSessionMax || hello.connection >= hello.connections) {
    return error(StatusCode::kInvalidArgument,
                 "hello for connection " + std::to_string(hello.connection) + " of " +
                     std::to_string(hello.connections) + "; a session has 1 to " +
                     std::to_string(kConnectionsPerSessionMax));
  }
  return hello;
}

void encode(std::span<const RemoteSpan> spans, std::span<std::byte> into) {
  TERRACE_CHECK(into.size() >= spans.size() * kRemoteSpanBytes);
  std::byte* at = into.data();
  for (const RemoteSpan& span : spans) {
    store(at, static_cast<uint64_t>(span.region));
    store(at + 8, span.offset);
    store(at + 16, span.length);
    at += kRemoteSpanBytes;
  }
}

Status decode_spans(std::span<const std::byte> bytes, std::span<RemoteSpan> spans,
                    uint64_t total_bytes) {
  if (bytes.size() < spans.size() * kRemoteSpanBytes) {
    return error(StatusCode::kInvalidArgument, "fragment table of " + std::to_string(spans.size()) +
                                                   " entries in " + std::to_string(bytes.size()) +
                                                   " bytes");
  }
  uint64_t left = total_bytes;
  const std::byte* at = bytes.data();
  for (RemoteSpan& span : spans) {
    span.region = static_cast<RegionId>(load<uint64_t>(at));
    span.offset = load<uint64_t>(at + 8);
    span.length = load<uint64_t>(at + 16);
    at += kRemoteSpanBytes;
    if (span.length == 0 || span.length > left || span.offset > UINT64_MAX - span.length) {
      return error(StatusCode::kInvalidArgument, "fragment of " + std::to_string(span.length) +
                                                     " bytes at " + std::to_string(span.offset) +
                                                     " with " + std::to_string(left) +
                                                     " bytes of the frame left");
    }
    left -= span.length;
  }
  if (left == 0) return ok_status();
  return error(StatusCode::kInvalidArgument,
               "fragments end " + std::to_string(left) + " bytes before the payload does");
}
}  // namespace terrace
