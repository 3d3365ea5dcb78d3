#include "transport/rdma_wire.h"

#include <cstring>

#include "base/bytes.h"
#include "transport/wire_format.h"

namespace terrace {
namespace {

constexpr uint32_t kEndpointMagic = 0x45445254;  // "TRDE" in memory order
constexpr uint32_t kNumberMax = 0xFFFFFF;        // queue pair numbers and PSNs have 24 bits
constexpr size_t kPathBytes = 40;
constexpr uint8_t kGoodbye = 1;

Status malformed(const char* what) {
  return error(StatusCode::kInvalidArgument, what);
}

template <class T>
void put(std::byte* into, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    into[i] = static_cast<std::byte>((static_cast<uint64_t>(value) >> (8 * i)) & 0xFF);
  }
}

template <class T>
T get(const std::byte* from) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value |= std::to_integer<uint64_t>(from[i]) << (8 * i);
  return static_cast<T>(value);
}

Status check_path(const RdmaPathEndpoint& path) {
  if (path.mtu < 1 || path.mtu > 5) return malformed("an RDMA path MTU that does not exist");
  if (path.reads_max == 0) return malformed("an RDMA path that serves no reads");
  if (path.message_qpn == 0 || path.data_qpn == 0 || path.message_qpn > kNumberMax ||
      path.data_qpn > kNumberMax || path.message_psn > kNumberMax || path.data_psn > kNumberMax) {
    return malformed("an RDMA queue pair number or PSN of more than 24 bits, or none");
  }
  constexpr std::array<uint8_t, 16> kNoGid{};
  if (path.ethernet && path.gid == kNoGid) return malformed("an RDMA path without an address");
  return ok_status();
}

/// The body that belongs to a record of this type with this count.
Status check_body(const RdmaRecord& record) {
  const size_t table = record.count * kRemoteSpanBytes;
  switch (record.type) {
    case RdmaRecordType::message:
    case RdmaRecordType::signal:
      return record.body_bytes <= kBodyBytesMax ? ok_status() : malformed("a message too long");
    case RdmaRecordType::hello:
      return record.body_bytes == 16 ? ok_status() : malformed("a secret of another length");
    case RdmaRecordType::write:
    case RdmaRecordType::read: {
      const bool whole = record.type == RdmaRecordType::write
                             ? record.body_bytes >= table && record.body_bytes <= kBodyBytesMax
                             : record.body_bytes == table;
      if (!whole) return malformed("a transfer without its table");
      if (record.count == 0 || record.count > kFramesFragmentsMax || record.bytes == 0 ||
          record.bytes > kFramePayloadBytesMax) {
        return malformed("a transfer of no bytes, over 1 MiB, or over 256 fragments");
      }
      return ok_status();
    }
    case RdmaRecordType::grant:
      if (record.count == 0 || record.count > kRdmaGrantEntriesMax ||
          record.body_bytes != record.count * kRdmaGrantEntryBytes) {
        return malformed("a grant without its table");
      }
      return ok_status();
    case RdmaRecordType::hello_ok:
    case RdmaRecordType::refused:
    case RdmaRecordType::landed:
    case RdmaRecordType::finished:
    case RdmaRecordType::abandoned:
    case RdmaRecordType::revoke:
    case RdmaRecordType::lane:
      return record.body_bytes == 0 ? ok_status() : malformed("a record with a body it has not");
  }
  return malformed("a record of an unknown type");
}
}  // namespace

std::string encode(const RdmaEndpoint& endpoint) {
  ByteWriter out;
  out.u32(kEndpointMagic);
  out.u8(kRdmaVersion);
  out.u8(static_cast<uint8_t>(endpoint.paths.size()));
  out.u16(0);
  out.u32(kRdmaFrameBytes);
  out.u16(kRdmaFrameWindow);
  out.u16(kRdmaTransfers);
  for (const RdmaPathEndpoint& path : endpoint.paths) {
    out.raw(path.gid.data(), path.gid.size());
    out.u16(path.lid);
    out.u8(path.ethernet ? 1 : 0);
    out.u8(path.mtu);
    out.u8(path.reads_max);
    out.u8(0);
    out.u16(0);
    out.u32(path.message_qpn);
    out.u32(path.message_psn);
    out.u32(path.data_qpn);
    out.u32(path.data_psn);
  }
  return out.take();
}

StatusOr<RdmaEndpoint> decode_rdma_endpoint(std::string_view bytes) {
  ByteReader in(bytes);
  if (in.u32() != kEndpointMagic) return malformed("these are not RDMA endpoint bytes");
  const uint8_t version = in.u8();
  if (version != kRdmaVersion) {
    return error(StatusCode::kFailedPrecondition, "the peer speaks RDMA version " +
                                                      std::to_string(version) + ", this build " +
                                                      std::to_string(kRdmaVersion));
  }
  const size_t count = in.u8();
  (void)in.u16();
  const bool same =
      in.u32() == kRdmaFrameBytes && in.u16() == kRdmaFrameWindow && in.u16() == kRdmaTransfers;
  if (in.ok() && !same) {
    return error(StatusCode::kFailedPrecondition, "the peer has other RDMA windows");
  }
  if (!in.ok() || count == 0 || count > kRdmaPathsMax || in.left() != count * kPathBytes) {
    return malformed("RDMA endpoint bytes of 1 to 4 paths have another length");
  }
  RdmaEndpoint endpoint;
  for (size_t i = 0; i < count; ++i) {
    RdmaPathEndpoint path;
    in.raw(path.gid.data(), path.gid.size());
    path.lid = in.u16();
    path.ethernet = in.u8() != 0;
    path.mtu = in.u8();
    path.reads_max = in.u8();
    (void)in.u8();
    (void)in.u16();
    path.message_qpn = in.u32();
    path.message_psn = in.u32();
    path.data_qpn = in.u32();
    path.data_psn = in.u32();
    TERRACE_RETURN_IF_ERROR(check_path(path));
    endpoint.paths.push_back(path);
  }
  return endpoint;
}

void encode(const RdmaFrameHeader& header, std::span<std::byte, kRdmaFrameHeaderBytes> into) {
  put<uint8_t>(&into[0], kRdmaVersion);
  put<uint8_t>(&into[1], header.goodbye ? kGoodbye : 0);
  put<uint16_t>(&into[2], 0);
  put<uint32_t>(&into[4], header.bytes);
  put<uint64_t>(&into[8], header.sequence);
  put<uint64_t>(&into[16], header.acknowledged);
}

StatusOr<RdmaFrameHeader> decode_rdma_frame(std::span<const std::byte> frame) {
  if (frame.size() < kRdmaFrameHeaderBytes) return malformed("an RDMA frame without its header");
  const auto version = get<uint8_t>(&frame[0]);
  if (version != kRdmaVersion) {
    return error(StatusCode::kFailedPrecondition,
                 "an RDMA frame of version " + std::to_string(version));
  }
  RdmaFrameHeader header{.goodbye = (get<uint8_t>(&frame[1]) & kGoodbye) != 0,
                         .bytes = get<uint32_t>(&frame[4]),
                         .sequence = get<uint64_t>(&frame[8]),
                         .acknowledged = get<uint64_t>(&frame[16])};
  if (header.bytes != frame.size() - kRdmaFrameHeaderBytes) {
    return malformed("an RDMA frame of another length");
  }
  if (header.sequence == 0 && header.bytes > 0) return malformed("records in an uncounted frame");
  return header;
}

void encode(const RdmaRecord& record, std::span<std::byte, kRdmaRecordBytes> into) {
  put<uint8_t>(&into[0], static_cast<uint8_t>(record.type));
  put<uint8_t>(&into[1], record.path);
  put<uint16_t>(&into[2], record.count);
  put<uint32_t>(&into[4], record.body_bytes);
  put<uint64_t>(&into[8], record.tag);
  put<uint64_t>(&into[16], record.id);
  put<uint64_t>(&into[24], record.unfinished);
  put<uint32_t>(&into[32], record.argument);
  put<uint32_t>(&into[36], record.bytes);
}

StatusOr<RdmaRecord> decode_rdma_record(std::span<const std::byte, kRdmaRecordBytes> bytes) {
  const auto type = get<uint8_t>(&bytes[0]);
  if (type < static_cast<uint8_t>(RdmaRecordType::hello) ||
      type > static_cast<uint8_t>(RdmaRecordType::lane)) {
    return malformed("a record of an unknown type");
  }
  const RdmaRecord record{.type = static_cast<RdmaRecordType>(type),
                          .path = get<uint8_t>(&bytes[1]),
                          .count = get<uint16_t>(&bytes[2]),
                          .body_bytes = get<uint32_t>(&bytes[4]),
                          .tag = get<uint64_t>(&bytes[8]),
                          .id = get<uint64_t>(&bytes[16]),
                          .unfinished = get<uint64_t>(&bytes[24]),
                          .argument = get<uint32_t>(&bytes[32]),
                          .bytes = get<uint32_t>(&bytes[36])};
  TERRACE_RETURN_IF_ERROR(check_body(record));
  return record;
}

std::vector<std::byte> encode(std::span<const RdmaGrantEntry> entries) {
  std::vector<std::byte> out(entries.size() * kRdmaGrantEntryBytes);
  std::byte* at = out.data();
  for (const RdmaGrantEntry& entry : entries) {
    put<uint64_t>(at, entry.address);
    put<uint32_t>(at + 8, entry.key);
    put<uint32_t>(at + 12, entry.length);
    at += kRdmaGrantEntryBytes;
  }
  return out;
}

StatusOr<std::vector<RdmaGrantEntry>> decode_rdma_grant(std::span<const std::byte> body,
                                                        uint64_t total_bytes) {
  std::vector<RdmaGrantEntry> entries;
  uint64_t left = total_bytes;
  for (; body.size() >= kRdmaGrantEntryBytes; body = body.subspan(kRdmaGrantEntryBytes)) {
    const RdmaGrantEntry entry{.address = get<uint64_t>(&body[0]),
                               .key = get<uint32_t>(&body[8]),
                               .length = get<uint32_t>(&body[12])};
    if (entry.length == 0 || entry.length > left || entry.address > UINT64_MAX - entry.length) {
      return malformed("a grant of other bytes than were asked for");
    }
    left -= entry.length;
    entries.push_back(entry);
  }
  if (left > 0 || !body.empty()) return malformed("a grant of other bytes than were asked for");
  return entries;
}
}  // namespace terrace
