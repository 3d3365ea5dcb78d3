// base/gate.h - close the door, then wait for the room to empty. Single-threaded.
#pragma once
#include <cstddef>
#include <functional>
#include <utility>

#include "base/check.h"

namespace terrace {

class Gate {
 public:
  /// False once closed: answer the request with kUnavailable.
  [[nodiscard]] bool enter() {
    if (closed_) return false;
    ++inside_;
    return true;
  }
  void leave() {
    TERRACE_CHECK(inside_ > 0);
    if (--inside_ == 0 && closed_) std::exchange(empty_, nullptr)();
  }
  /// Calls `empty` once nobody is inside, at once when that is now; at most one close.
  void close(std::function<void()> empty) {
    TERRACE_CHECK(!closed_);
    closed_ = true;
    empty_ = std::move(empty);
    if (inside_ == 0) std::exchange(empty_, nullptr)();
  }
  bool closed() const { return closed_; }
  size_t inside() const { return inside_; }
  ~Gate() { TERRACE_CHECK(inside_ == 0); }

 private:
  size_t inside_ = 0;
  bool closed_ = false;
  std::function<void()> empty_;
};
}  // namespace terrace
