#include "storage/shared_medium.h"

#include <algorithm>
#include <utility>

#include "base/limits.h"

namespace terrace {

Status SharedBytes::read_pieces(uint64_t offset, std::span<const iovec> into) {
  for (const iovec& piece : into) {
    std::span<std::byte> left(static_cast<std::byte*>(piece.iov_base), piece.iov_len);
    while (!left.empty()) {
      const std::span<std::byte> part = left.first(std::min<size_t>(left.size(), kMiB));
      TERRACE_RETURN_IF_ERROR(read(offset, part));
      offset += part.size();
      left = left.subspan(part.size());
    }
  }
  return ok_status();
}

StatusOr<std::vector<SharedMedium::Listed>> SharedMedium::list_facts(const std::string& folder,
                                                                     size_t max) {
  TERRACE_ASSIGN_OR_RETURN(std::vector<std::string> names, list(folder, max));
  std::vector<Listed> out;
  out.reserve(names.size());
  for (std::string& name : names) out.push_back({std::move(name), std::nullopt});
  return out;
}
}  // namespace terrace
