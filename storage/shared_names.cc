#include "storage/shared_names.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/check.h"
#include "base/identity.h"
#include "base/limits.h"

namespace terrace {
namespace {

constexpr std::string_view kTag = "terrace.shared";
constexpr uint16_t kVersion = 1;
constexpr size_t kKeyDigits = 64;
constexpr size_t kGenerationDigits = 16;
constexpr size_t kFolderDigits = 3;
constexpr std::string_view kDigits = "0123456789abcdef";
static_assert(kObjectBytesMax < uint64_t{1} << SharedGeneration::kBytesBits);

std::string hex_of(uint64_t value, size_t digits) {
  std::string text(digits, '0');
  for (size_t i = digits; i > 0; --i, value >>= 4) text[i - 1] = kDigits[value & 0xF];
  return text;
}

std::optional<uint64_t> number_of(std::string_view text) {
  uint64_t value = 0;
  for (const char c : text) {
    const size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    value = value << 4 | digit;
  }
  return value;
}

std::optional<ChunkKey> key_of_hex(std::string_view text) {
  if (text.size() != kKeyDigits) return std::nullopt;
  ChunkKey key;
  for (size_t i = 0; i < key.digest.size(); ++i) {
    const std::optional<uint64_t> byte = number_of(text.substr(2 * i, 2));
    if (!byte) return std::nullopt;
    key.digest[i] = static_cast<std::byte>(*byte);
  }
  return key;
}
}  // namespace

NamespaceDigest shared_namespace_digest(std::string_view tenant, std::string_view name,
                                        const ChunkKey& fingerprint) {
  ByteWriter out;
  out.raw(kTag);
  out.u16(kVersion);
  out.text(tenant);
  out.text(name);
  out.raw(fingerprint.digest.data(), fingerprint.digest.size());
  return sha256(out.take());
}

SharedGeneration SharedGeneration::of(int64_t unix_seconds, uint64_t logical_bytes) {
  TERRACE_CHECK(logical_bytes < uint64_t{1} << kBytesBits);
  const auto time = static_cast<uint64_t>(std::max<int64_t>(0, unix_seconds));
  return {time << kBytesBits | logical_bytes};
}

uint32_t shared_folder_of(const ChunkKey& key) {
  return static_cast<uint32_t>(key.digest[0]) << 4 | static_cast<uint32_t>(key.digest[1]) >> 4;
}

std::string shared_folder_path(const NamespaceDigest& ns, uint32_t folder) {
  return std::string(kSharedObjects) + "/" + ns.hex() + "/" + hex_of(folder, kFolderDigits);
}

std::string shared_path(const SharedName& name) {
  return shared_folder_path(name.ns, shared_folder_of(name.key)) + "/" + name.key.hex() + "." +
         hex_of(name.generation.number, kGenerationDigits);
}

std::string shared_aside_path(const char* folder, const SharedName& name) {
  return std::string(folder) + "/" + name.ns.hex() + "." + name.key.hex() + "." +
         hex_of(name.generation.number, kGenerationDigits);
}

std::string shared_lease_folder(uint32_t folder) {
  return std::string(kSharedLeases) + "/" + hex_of(folder, kFolderDigits);
}

std::string shared_token(uint64_t token) {
  return hex_of(token, kGenerationDigits);
}

std::optional<uint64_t> parse_shared_token(std::string_view text) {
  return text.size() == kGenerationDigits ? number_of(text) : std::nullopt;
}

std::optional<NamespaceDigest> parse_shared_namespace(std::string_view text) {
  return key_of_hex(text);
}

std::optional<uint32_t> parse_shared_folder(std::string_view text) {
  const std::optional<uint64_t> number = number_of(text);
  if (text.size() != kFolderDigits || !number) return std::nullopt;
  return static_cast<uint32_t>(*number);
}

std::optional<SharedLeaf> parse_shared_leaf(std::string_view text) {
  if (text.size() != kKeyDigits + 1 + kGenerationDigits || text[kKeyDigits] != '.') {
    return std::nullopt;
  }
  const std::optional<ChunkKey> key = key_of_hex(text.substr(0, kKeyDigits));
  const std::optional<uint64_t> number = number_of(text.substr(kKeyDigits + 1));
  if (!key || !number) return std::nullopt;
  return SharedLeaf{*key, {*number}};
}
}  // namespace terrace
