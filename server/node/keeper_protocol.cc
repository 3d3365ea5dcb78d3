#include "server/node/keeper_protocol.h"

#include <algorithm>

#include "base/bytes.h"

namespace terrace {
namespace {

constexpr uint32_t kMagic = 0x50454B54;  // "TKEP" in memory order
constexpr uint16_t kVersion = 1;

Status malformed(const std::string& what) {
  return error(StatusCode::kInvalidArgument, "keeper packet: " + what);
}

Status read_head(ByteReader* in) {
  if (in->u32() != kMagic) return malformed("bad magic");
  if (const uint16_t version = in->u16(); version != kVersion) {
    return malformed("version " + std::to_string(version) + "; this build knows 1");
  }
  return ok_status();
}

bool is_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}
}  // namespace

std::string encode(const KeeperRequest& request) {
  ByteWriter out;
  out.u32(kMagic);
  out.u16(kVersion);
  out.u16(static_cast<uint16_t>(request.verb));
  out.raw(request.owner.data(), request.owner.size());
  out.u32(request.linger_s);
  out.u32(request.index);
  out.text(request.name);
  return out.take();
}

std::string encode(const KeeperReply& reply) {
  ByteWriter out;
  out.u32(kMagic);
  out.u16(kVersion);
  out.u16(static_cast<uint16_t>(reply.code));
  out.text(std::string_view(reply.text).substr(0, kKeeperTextBytesMax));
  return out.take();
}

StatusOr<KeeperRequest> decode_keeper_request(std::string_view packet) {
  ByteReader in(packet);
  TERRACE_RETURN_IF_ERROR(read_head(&in));
  KeeperRequest request;
  const uint16_t verb = in.u16();
  if (verb < static_cast<uint16_t>(KeeperVerb::hello) ||
      verb > static_cast<uint16_t>(KeeperVerb::clear)) {
    return malformed("verb " + std::to_string(verb));
  }
  request.verb = static_cast<KeeperVerb>(verb);
  in.raw(request.owner.data(), request.owner.size());
  request.linger_s = in.u32();
  request.index = in.u32();
  request.name = in.text(kKeptNameBytesMax);
  if (!in.ok() || in.left() != 0) return malformed("its fields do not add up");
  const bool named = request.verb == KeeperVerb::keep || request.verb == KeeperVerb::forget;
  if (named ? !is_name(request.name) : !request.name.empty()) {
    return malformed("a name of " + std::to_string(request.name.size()) + " bytes");
  }
  return request;
}

StatusOr<KeeperReply> decode_keeper_reply(std::string_view packet) {
  ByteReader in(packet);
  TERRACE_RETURN_IF_ERROR(read_head(&in));
  KeeperReply reply;
  reply.code = status_code_of(in.u16());
  reply.text = in.text(kKeeperTextBytesMax);
  if (!in.ok() || in.left() != 0) return malformed("its fields do not add up");
  return reply;
}
}  // namespace terrace
