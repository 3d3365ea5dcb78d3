#include "base/chunk_key.h"

namespace terrace {

std::string ChunkKey::hex() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * digest.size());
  for (std::byte b : digest) {
    text += kDigits[static_cast<unsigned>(b) >> 4];
    text += kDigits[static_cast<unsigned>(b) & 15];
  }
  return text;
}

const char* name_of(Tier tier) {
  switch (tier) {
    case Tier::hbm:
      return "hbm";
    case Tier::dram:
      return "dram";
    case Tier::nvme:
      return "nvme";
    case Tier::shared:
      return "shared";
  }
  return "unknown";
}
}  // namespace terrace
