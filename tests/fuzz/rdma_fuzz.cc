// Goal: no bytes of an RDMA peer, in its endpoint or in its frames, crash the parsers or make them
// hold more than one record.
// Method: the input is taken as endpoint bytes, as a frame, as a grant, and as a stream of records
// that comes in pieces whose sizes byte 0 picks.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/prng.h"
#include "transport/rdma_stream.h"
#include "transport/wire_format.h"

namespace terrace {
namespace {

/// Does with records what a peer does before it knows whether they make sense.
struct Reader final : RdmaInStream::Sink {
  Status record_came(const RdmaRecord& record, std::span<const std::byte> body) override {
    TERRACE_CHECK(body.size() == record.body_bytes && body.size() <= kBodyBytesMax);
    if (record.type == RdmaRecordType::grant) (void)decode_rdma_grant(body, record.bytes);
    if (record.type == RdmaRecordType::write || record.type == RdmaRecordType::read) {
      std::vector<RemoteSpan> spans(record.count);
      (void)decode_spans(body, spans, record.bytes);
    }
    return ok_status();
  }
};
}  // namespace
}  // namespace terrace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace terrace;
  if (size < 2) return 0;
  const std::string text(reinterpret_cast<const char*>(data + 1), size - 1);
  if (const auto endpoint = decode_rdma_endpoint(text); endpoint.ok()) {
    TERRACE_CHECK(decode_rdma_endpoint(encode(*endpoint)).ok());
  }
  const auto bytes = std::as_bytes(std::span(text));
  (void)decode_rdma_frame(bytes);
  (void)decode_rdma_grant(bytes, data[0]);
  RdmaInStream in;
  Reader reader;
  Prng prng(data[0]);
  for (size_t at = 0; at < bytes.size();) {
    const size_t piece = std::min(1 + prng.below(size_t{1} << (data[0] % 13)), bytes.size() - at);
    if (!in.feed(bytes.subspan(at, piece), &reader).ok()) break;
    at += piece;
  }
  return 0;
}

/// An endpoint, a frame, and one good record of each type.
extern "C" size_t TerraceFuzzSeed(size_t i, uint8_t* out, size_t out_max) {
  using namespace terrace;
  using enum RdmaRecordType;
  std::string seed;
  static const RdmaRecord kRecords[] = {
      {.type = hello, .body_bytes = 16},
      {.type = message, .count = 3, .body_bytes = 50, .tag = 7},
      {.type = write, .count = 2, .body_bytes = 60, .id = 1, .unfinished = 1, .bytes = 40},
      {.type = read, .count = 1, .body_bytes = 24, .id = 2, .unfinished = 1, .bytes = 20},
      {.type = grant, .path = 1, .count = 2, .body_bytes = 32, .id = 1, .bytes = 40},
      {.type = lane, .id = 2, .argument = 17, .bytes = 5}};
  if (i == 0) {
    RdmaPathEndpoint path{.message_qpn = 17, .message_psn = 1, .data_qpn = 18, .data_psn = 2};
    path.gid[15] = 1;
    seed = encode(RdmaEndpoint{.paths = {path, path}});
  } else if (i == 1) {
    seed.resize(kRdmaFrameHeaderBytes + 40);
    encode(RdmaFrameHeader{.bytes = 40, .sequence = 1},
           std::as_writable_bytes(std::span(seed)).first<kRdmaFrameHeaderBytes>());
  } else if (i < 2 + std::size(kRecords)) {
    const RdmaRecord& record = kRecords[i - 2];
    seed.resize(kRdmaRecordBytes);
    encode(record, std::as_writable_bytes(std::span(seed)).first<kRdmaRecordBytes>());
    std::string body(record.body_bytes, '\0');
    if (record.type == write || record.type == read) {
      const std::vector<RemoteSpan> spans(record.count, {RegionId{1}, 16, 20});
      encode(spans, std::as_writable_bytes(std::span(body)).first(record.count * kRemoteSpanBytes));
    }
    seed += body;
  } else {
    return 0;
  }
  TERRACE_CHECK(1 + seed.size() <= out_max);
  out[0] = 6;
  std::memcpy(out + 1, seed.data(), seed.size());
  return 1 + seed.size();
}
