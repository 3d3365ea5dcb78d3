// proto/message_kind.h - which message of data.proto a frame carries, and the packed arrays inside
// them. Numbers are a format of the wire. Pure functions.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/chunk_key.h"
#include "base/geometry.h"
#include "base/region.h"
#include "base/status.h"

namespace terrace {

/// Of the control and the data protocol together; a session of another version is refused.
inline constexpr uint32_t kProtocolVersion = 2;

enum class MessageKind : uint16_t {
  lookup_request = 1,
  lookup_reply = 2,
  match_request = 3,
  match_reply = 4,
  fetch_request = 5,
  fetch_reply = 6,
  put_request = 7,
  put_admission = 8,
  put_source = 9,
  put_reply = 10,
  erase_request = 11,
  erase_reply = 12,
  list_request = 13,
  list_reply = 14,
  release_lease = 15,
  cancel_request = 16,
  touch_keys = 17,
  view_request = 18,
  view_reply = 19,
  release_views = 20,
  generate_request = 21,
  generate_reply = 22,
  release_right = 23,
  call_back_device = 24,
  give_back_device = 25,
};

/// Whether an engine's step waits for the answer to it, or it is such an answer.
constexpr bool is_urgent(MessageKind kind) {
  return (kind >= MessageKind::lookup_request && kind <= MessageKind::match_reply) ||
         kind == MessageKind::view_request || kind == MessageKind::view_reply;
}

/// Residency of one key as it travels.
struct WireInfo {
  StatusCode code = StatusCode::kNotFound;
  TierMask tiers = 0;
  uint16_t sections = 0;
  uint32_t load_us = 0;
  uint64_t bytes = 0;
  uint64_t generation = 0;
  bool operator==(const WireInfo&) const = default;
};
inline constexpr size_t kWireInfoBytes = 24;
inline constexpr size_t kWireFragmentBytes = 32;
inline constexpr size_t kWirePlaneBytes = 40;
inline constexpr size_t kWireSectionBytes = 12;

// Each pack_* appends to a string; each unpack_* refuses, with kInvalidArgument that names the
// limit, lengths that are no multiple of the entry and counts over `max`.
void pack_info(const WireInfo& info, std::string* out);
StatusOr<std::vector<WireInfo>> unpack_infos(std::string_view bytes, size_t max);
std::string pack_keys(std::span<const ChunkKey> keys);
/// Keys are used in place: the span lies in `bytes`.
StatusOr<std::span<const ChunkKey>> view_keys(std::string_view bytes, size_t max);
std::string pack_fragments(std::span<const Fragment> fragments);
StatusOr<std::vector<Fragment>> unpack_fragments(std::string_view bytes, size_t max);
std::string pack_planes(std::span<const PoolPlane> planes);
StatusOr<std::vector<PoolPlane>> unpack_planes(std::string_view bytes, size_t max);
std::string pack_sections(std::span<const SectionSpec> sections);
/// Also refuses unknown kinds and codecs, zero lengths, and a sum over kObjectBytesMax.
StatusOr<std::vector<SectionSpec>> unpack_sections(std::string_view bytes);
std::string pack_ids(std::span<const uint64_t> ids);
StatusOr<std::vector<uint64_t>> unpack_ids(std::string_view bytes, size_t max);
std::string pack_words(std::span<const uint32_t> words);
StatusOr<std::vector<uint32_t>> unpack_words(std::string_view bytes, size_t max);

/// What one data frame of a fetch carries: runs of bytes of one section each, in payload order.
struct Delivery {
  uint32_t item = 0;  // index in the FetchRequest
  uint32_t section = 0;
  uint64_t offset = 0;         // in the section
  uint64_t object_offset = 0;  // the same place in the object\'s logical bytes
  uint32_t bytes = 0;
  Tier tier = Tier::dram;
  std::vector<uint32_t> crcs;  // one per unit touched; of a unit's part when it is cut
  bool operator==(const Delivery&) const = default;
};
std::string pack_deliveries(std::span<const Delivery> deliveries);
/// At most kDeliveriesPerFrameMax; the number of CRCs must follow from offset and bytes.
StatusOr<std::vector<Delivery>> unpack_deliveries(std::string_view bytes);
/// CRC units that [offset, offset + bytes) of a section touches.
uint32_t units_touched(uint64_t offset, uint64_t bytes);
}  // namespace terrace
