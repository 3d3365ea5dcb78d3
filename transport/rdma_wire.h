// transport/rdma_wire.h - what RDMA peers tell each other: the endpoint bytes that travel over the
// control channel, the frame around everything that is sent, and the records inside. Every byte is
// specified in docs/formats.md. Pure functions, no verbs; everything here is the peer's to forge.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "base/region.h"
#include "base/status.h"

namespace terrace {

inline constexpr uint8_t kRdmaVersion = 1;
inline constexpr size_t kRdmaPathsMax = 4;
inline constexpr uint32_t kRdmaFrameBytes = 8192;
/// Frames that a side may have sent and not seen acknowledged: as many buffers wait at the other.
inline constexpr uint32_t kRdmaFrameWindow = 32;
/// Transfers that a side may have asked for and not seen finished: as many slots at the other.
inline constexpr uint32_t kRdmaTransfers = 64;
/// Bodies of those transfers, together; one transfer may always be under way.
inline constexpr uint32_t kRdmaTransferBodiesMax = 2 * kBodyBytesMax;

// Endpoint: how to reach the queue pairs of one side.
struct RdmaPathEndpoint {
  std::array<uint8_t, 16> gid{};
  uint16_t lid = 0;
  bool ethernet = true;
  uint8_t mtu = 1;        // IBV_MTU_256 = 1 to IBV_MTU_4096 = 5
  uint8_t reads_max = 1;  // RDMA READs that this side serves at once
  uint32_t message_qpn = 0;
  uint32_t message_psn = 0;
  uint32_t data_qpn = 0;
  uint32_t data_psn = 0;
  bool operator==(const RdmaPathEndpoint&) const = default;
};
struct RdmaEndpoint {
  std::vector<RdmaPathEndpoint> paths;
  bool operator==(const RdmaEndpoint&) const = default;
};
std::string encode(const RdmaEndpoint& endpoint);
/// kInvalidArgument: too short, too long, or a value that no port has. kFailedPrecondition: another
/// version, or other windows.
StatusOr<RdmaEndpoint> decode_rdma_endpoint(std::string_view bytes);

// Frame: one SEND.
struct RdmaFrameHeader {
  bool goodbye = false;       // the sender closed this peer
  uint32_t bytes = 0;         // of records that follow
  uint64_t sequence = 0;      // 1, 2, ...; 0: not counted, carries no records
  uint64_t acknowledged = 0;  // the last sequence that arrived in order
  bool operator==(const RdmaFrameHeader&) const = default;
};
inline constexpr size_t kRdmaFrameHeaderBytes = 24;
inline constexpr size_t kRdmaFramePayloadBytes = kRdmaFrameBytes - kRdmaFrameHeaderBytes;
void encode(const RdmaFrameHeader& header, std::span<std::byte, kRdmaFrameHeaderBytes> into);
/// kInvalidArgument; kFailedPrecondition: another version.
StatusOr<RdmaFrameHeader> decode_rdma_frame(std::span<const std::byte> frame);

// Record: one message or one step of a transfer. Those of one side form a stream that is cut into
// frames anywhere.
enum class RdmaRecordType : uint8_t {
  hello = 1,       // body: the session's secret; the first record of the side that called
  hello_ok = 2,    // its answer
  message = 3,     // body: the upper layer's
  signal = 4,      // a write of no bytes. body: the upper layer's
  write = 5,       // asks to write. body: fragment table, then the upper layer's bytes
  read = 6,        // asks to read. body: fragment table
  grant = 7,       // answers both: go ahead. body: where, for this operation alone
  refused = 8,     // answers both: no; argument: status code
  landed = 9,      // the write of a lost queue pair had arrived before that
  finished = 10,   // the one who asked is through with it: a read, or a write granted again
  abandoned = 11,  // the one who asked wants it no more, and has not begun
  revoke = 12,     // whose memory it is wants it back: abandon it if it was not begun
  lane = 13,  // a data queue pair was replaced (argument: its number, bytes: PSN), or a path is
              // given up (argument 0); id: generation
};
struct RdmaRecord {
  RdmaRecordType type = RdmaRecordType::message;
  uint8_t path = 0;    // of grant and lane
  uint16_t count = 0;  // message: kind; write, read, grant: entries of the table
  uint32_t body_bytes = 0;
  uint64_t tag = 0;
  uint64_t id = 0;          // transfer: 1, 2, ... in the order of asking
  uint64_t unfinished = 0;  // all transfers that this side asked for below it are finished;
                            // 0 in messages, which steps may overtake
  uint32_t argument = 0;    // write, signal: immediate; grant: generation of the lane
  uint32_t bytes = 0;       // write, read: payload
  bool operator==(const RdmaRecord&) const = default;
};
inline constexpr size_t kRdmaRecordBytes = 40;
void encode(const RdmaRecord& record, std::span<std::byte, kRdmaRecordBytes> into);
/// kInvalidArgument: unknown type, or a length or count over its limit or at odds with the others.
StatusOr<RdmaRecord> decode_rdma_record(std::span<const std::byte, kRdmaRecordBytes> bytes);

/// One run of granted memory.
struct RdmaGrantEntry {
  uint64_t address = 0;
  uint32_t key = 0;
  uint32_t length = 0;
  bool operator==(const RdmaGrantEntry&) const = default;
};
inline constexpr size_t kRdmaGrantEntryBytes = 16;
/// A span may lie across the border of two registrations.
inline constexpr size_t kRdmaGrantEntriesMax = 2 * kFramesFragmentsMax;
std::vector<std::byte> encode(std::span<const RdmaGrantEntry> entries);
/// kInvalidArgument: an empty entry, one that wraps around, or a sum other than `total_bytes`.
StatusOr<std::vector<RdmaGrantEntry>> decode_rdma_grant(std::span<const std::byte> body,
                                                        uint64_t total_bytes);
}  // namespace terrace
