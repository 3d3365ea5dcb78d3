#include "tools/reference_engine/tokenizer.h"

namespace terrace {

StatusOr<ByteTokenizer> ByteTokenizer::create(uint32_t vocab) {
  if (vocab < kBytes) {
    return error(StatusCode::kInvalidArgument, "vocab_size=" + std::to_string(vocab) +
                                                   ": byte tokens need at least " +
                                                   std::to_string(kBytes) + " ids");
  }
  return ByteTokenizer(vocab > kEnd);
}

std::vector<uint32_t> ByteTokenizer::encode(std::string_view text) const {
  std::vector<uint32_t> tokens;
  tokens.reserve(text.size() + 1);
  if (has_specials_) tokens.push_back(kBegin);
  for (const char byte : text) tokens.push_back(static_cast<unsigned char>(byte));
  return tokens;
}

std::string ByteTokenizer::decode(std::span<const uint32_t> tokens) const {
  std::string text;
  for (const uint32_t token : tokens) {
    if (token < kBytes) text += static_cast<char>(token);
  }
  return text;
}

std::string ByteTokenizer::digest() const {
  return has_specials_ ? "bytes, begin=256, end=257" : "bytes";
}
}  // namespace terrace
