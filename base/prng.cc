#include "base/prng.h"

#include <sys/random.h>

#include <cerrno>

namespace terrace {

void secure_random(std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t n = ::getrandom(out.data(), out.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    TERRACE_CHECK(n > 0);  // fails only when the kernel has no getrandom
    out = out.subspan(static_cast<size_t>(n));
  }
}
}  // namespace terrace
