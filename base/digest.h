// base/digest.h - digests of bytes that need not be one run, and keyed ones. Pure functions.
#pragma once
#include <sys/uio.h>

#include <span>
#include <string>
#include <string_view>

#include "base/chunk_key.h"

namespace terrace {

/// SHA-256 of bytes that lie in pieces.
ChunkKey sha256_of(std::span<const iovec> pieces);
/// HMAC-SHA-256 (RFC 2104), 32 bytes.
std::string hmac_sha256(std::string_view key, std::string_view bytes);
}  // namespace terrace
