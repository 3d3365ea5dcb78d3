#include "base/digest.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include <memory>

#include "base/check.h"

namespace terrace {

ChunkKey sha256_of(std::span<const iovec> pieces) {
  ChunkKey out;
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> state(::EVP_MD_CTX_new(),
                                                                 ::EVP_MD_CTX_free);
  bool done = state != nullptr && ::EVP_DigestInit_ex(state.get(), ::EVP_sha256(), nullptr) == 1;
  for (const iovec& piece : pieces) {
    done = done && ::EVP_DigestUpdate(state.get(), piece.iov_base, piece.iov_len) == 1;
  }
  auto* const digest = reinterpret_cast<unsigned char*>(out.digest.data());
  done = done && ::EVP_DigestFinal_ex(state.get(), digest, nullptr) == 1;
  TERRACE_CHECK(done);
  return out;
}

std::string hmac_sha256(std::string_view key, std::string_view bytes) {
  std::string out(SHA256_DIGEST_LENGTH, '\0');
  unsigned int length = 0;
  const auto* const made =
      ::HMAC(::EVP_sha256(), key.data(), static_cast<int>(key.size()),
             reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
             reinterpret_cast<unsigned char*>(out.data()), &length);
  TERRACE_CHECK(made != nullptr && length == out.size());
  return out;
}
}  // namespace terrace
