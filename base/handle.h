// base/handle.h - one move-only owner for every C resource: descriptors, rings, verbs, CUDA.
#pragma once
#include <unistd.h>

#include <utility>

namespace terrace {

/// Traits: `using Raw`, `static Raw null()`, `static void close(Raw)`.
template <class Traits>
class Handle {
 public:
  using Raw = typename Traits::Raw;
  Handle() = default;
  explicit Handle(Raw raw) : raw_(raw) {}
  Handle(Handle&& other) noexcept : raw_(other.release()) {}
  Handle& operator=(Handle&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~Handle() { reset(); }

  Raw get() const { return raw_; }
  explicit operator bool() const { return raw_ != Traits::null(); }
  Raw release() { return std::exchange(raw_, Traits::null()); }
  void reset(Raw next = Traits::null()) {
    if (Raw old = std::exchange(raw_, next); old != Traits::null()) Traits::close(old);
  }

 private:
  Raw raw_ = Traits::null();
};

struct FdTraits {
  using Raw = int;
  static Raw null() { return -1; }
  static void close(Raw fd) { ::close(fd); }
};
using Fd = Handle<FdTraits>;
}  // namespace terrace
