// tests/sim/waiting.h - an operation that a test waits for. Thread-confined.
#pragma once
#include <utility>

#include "base/op.h"
#include "base/status.h"

namespace terrace::testing {

class Waiting final : public Op {
 public:
  void done(Status result) override {
    over = true;
    status = std::move(result);
  }
  bool over = false;
  Status status;
};
}  // namespace terrace::testing
