// tests/sim/held_files.h - files whose renames wait while a test holds them, so that something else
// can happen between a decision and its deed. Thread-safe.
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "storage/file_calls.h"

namespace terrace::testing {

struct Hold {
  std::atomic<bool> on = false;
  std::atomic<int> waiting = 0;
};

class HeldFiles final : public FileCalls {
 public:
  explicit HeldFiles(std::shared_ptr<Hold> hold) : hold_(std::move(hold)) {}
  int rename(const std::string& from, const std::string& to) override {
    ++hold_->waiting;
    while (hold_->on) std::this_thread::sleep_for(milliseconds(1));
    --hold_->waiting;
    return FileCalls::rename(from, to);
  }

 private:
  const std::shared_ptr<Hold> hold_;
};
}  // namespace terrace::testing
