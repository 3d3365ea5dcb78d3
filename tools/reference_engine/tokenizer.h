// tools/reference_engine/tokenizer.h - text as token ids, one per byte. A stand-in for every
// model's own tokenizer: what matters here is that equal texts give equal ids. Values, pure.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace terrace {

class ByteTokenizer {
 public:
  static constexpr uint32_t kBytes = 256;
  static constexpr uint32_t kBegin = 256;  // before every text, when the vocabulary reaches it
  static constexpr uint32_t kEnd = 257;

  /// kInvalidArgument under 256 ids.
  static StatusOr<ByteTokenizer> create(uint32_t vocab);
  std::vector<uint32_t> encode(std::string_view text) const;
  /// Ids that are no byte become nothing. The bytes need not be UTF-8.
  std::string decode(std::span<const uint32_t> tokens) const;
  bool ends(uint32_t token) const { return has_specials_ && token == kEnd; }
  /// For the fingerprint.
  std::string digest() const;

 private:
  explicit ByteTokenizer(bool has_specials) : has_specials_(has_specials) {}
  bool has_specials_;
};
}  // namespace terrace
