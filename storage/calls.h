// storage/calls.h - Ops for internal steps: a pool that turns a function into an Op and takes the
// Op back when it is done. Thread-confined.
#pragma once
#include <deque>
#include <functional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/op.h"

namespace terrace {

class Calls {
 public:
  using Then = std::function<void(Status)>;
  ~Calls() { TERRACE_CHECK(outstanding_ == 0); }

  /// An Op that runs `then` once. Must be started, or completed by Loop::defer.
  Op* make(Then then) {
    if (free_.empty()) {
      free_.push_back(&calls_.emplace_back());
      free_.back()->pool = this;
    }
    Call* const call = free_.back();
    free_.pop_back();
    call->then = std::move(then);
    ++outstanding_;
    return call;
  }
  size_t outstanding() const { return outstanding_; }

 private:
  struct Call final : Op {
    Calls* pool = nullptr;
    Then then;
    Then take() {
      Then mine = std::exchange(then, nullptr);
      pool->free_.push_back(this);
      --pool->outstanding_;
      return mine;
    }
    void done(Status result) override { take()(std::move(result)); }
  };
  std::deque<Call> calls_;  // never moves its items
  std::vector<Call*> free_;
  size_t outstanding_ = 0;
};
}  // namespace terrace
