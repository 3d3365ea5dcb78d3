// base/op.h - one asynchronous operation. The whole concurrency model is this class.
//
// Starting has two channels that never mix: a non-OK return means refused, `op` is untouched;
// OK means accepted, and `done` runs once, later.
#pragma once
#include "base/status.h"

namespace terrace {

/// The starter owns the Op and keeps it at one address until `done` runs. `done` runs exactly
/// once, on the loop thread that started the operation, never inside the call that started it.
/// A derived class holds the state that a coroutine frame would have hidden.
class Op {
 public:
  Op() = default;
  Op(const Op&) = delete;
  Op& operator=(const Op&) = delete;
  virtual void done(Status result) = 0;

 protected:
  ~Op() = default;
};
}  // namespace terrace
