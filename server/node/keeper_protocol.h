// server/node/keeper_protocol.h - what a node and its keeper process say to each other: one packet
// a request, one packet the answer. docs/formats.md specifies them. Pure functions.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace terrace {

enum class KeeperVerb : uint8_t {
  hello = 1,   // first, with owner and linger
  keep = 2,    // a name, and the packet's descriptor
  forget = 3,  // a name
  take = 4,    // an index, from 0: answered with a name and a descriptor, past the end kNotFound
  clear = 5,   // forget everything
};

struct KeeperRequest {
  KeeperVerb verb = KeeperVerb::hello;
  std::array<std::byte, 16> owner{};  // hello: the data directory
  uint32_t linger_s = 0;              // hello
  uint32_t index = 0;                 // take
  std::string name;                   // keep, forget
  bool operator==(const KeeperRequest&) const = default;
};

struct KeeperReply {
  StatusCode code = StatusCode::kOk;
  std::string text;  // take: the name; of an error: what is wrong
  bool operator==(const KeeperReply&) const = default;
};

inline constexpr size_t kKeptNameBytesMax = 128;
inline constexpr size_t kKeeperTextBytesMax = 256;
inline constexpr size_t kKeeperPacketBytesMax = 512;
inline constexpr uint32_t kKeptFilesMax = 65536;

std::string encode(const KeeperRequest& request);
std::string encode(const KeeperReply& reply);
/// kInvalidArgument: not a request of this version, or with a name that is none (1 to
/// kKeptNameBytesMax of a-z, 0-9, '-').
StatusOr<KeeperRequest> decode_keeper_request(std::string_view packet);
/// kInvalidArgument: not a reply of this version.
StatusOr<KeeperReply> decode_keeper_reply(std::string_view packet);
}  // namespace terrace
