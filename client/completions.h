// client/completions.h - where operations are named and completions wait to be taken. The only
// thing that the loop and the engine's threads share per operation. Thread-safe.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/handle.h"
#include "client/terrace.h"

namespace terrace {

class Completions {
 public:
  /// At most `live_max` operations in flight, and kWaitingFactor times as many completions that
  /// nobody took yet.
  static constexpr uint32_t kWaitingFactor = 4;
  explicit Completions(uint32_t live_max);

  /// Names a new operation. `put_sections`: of a put, the sections of each item. kResourceExhausted
  /// names the limit.
  StatusOr<OpId> begin(std::vector<uint32_t> put_sections = {});
  /// The operation was never started after all.
  void abandon(OpId op);
  /// Exactly once for each begin() that was not abandoned.
  void publish(Completion completion);
  /// Layers of a fetch that are ready; only grows. From the loop thread.
  void set_layers(OpId op, uint32_t layers);
  /// These items of a fetch that goes on are given up; `why` is the first one's reason. Before the
  /// layers move on without them. From the loop thread.
  void lose(OpId op, std::span<const uint32_t> items, const Status& why);

  /// Lock-free. Stays readable after the completion was taken, until the slot is used again.
  uint32_t layers(OpId op) const;
  /// See Client.
  Status wait_layer(OpId op, uint32_t layer, std::chrono::milliseconds timeout);
  StatusOr<std::vector<uint32_t>> keys_lost(OpId op) const;
  size_t drain(std::span<Completion> out);
  StatusOr<Completion> wait(OpId op, std::chrono::milliseconds timeout);
  int event_fd() const { return event_.get(); }
  /// Whether sections [first, first + count) of `item` exist in a put that is in flight: kNotFound,
  /// kInvalidArgument.
  Status check_source(OpId op, uint32_t item, uint32_t first, uint32_t count) const;

 private:
  enum class State : uint8_t { free, live, waiting };
  static constexpr uint32_t kNone = ~uint32_t{0};
  struct Slot {
    State state = State::free;
    uint64_t generation = 0;
    uint32_t previous = kNone, next = kNone;  // among those that wait, oldest first
    std::vector<uint32_t> put_sections;
    std::vector<uint32_t> lost;  // of a fetch that goes on
    Status lost_why;
    std::unique_ptr<Completion> completion;
    std::atomic<uint64_t> layers{0};  // generation << 16 | whether keys were lost << 15 | layers
  };
  /// The slot, or null when `op` is no longer, or never was, in it.
  Slot* find(OpId op);
  const Slot* find(OpId op) const;
  /// The word of layers and loss; 0 when the slot is another operation's by now.
  uint64_t word_of(OpId op) const;
  Completion take(uint32_t index);
  void free_slot(uint32_t index);
  void say_waiting();
  void settle_event();

  const uint32_t live_max_;
  Fd event_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Slot> slots_;     // guarded by mutex_, but for `layers`
  std::vector<uint32_t> free_;  // guarded by mutex_
  uint32_t live_ = 0;           // guarded by mutex_
  uint32_t waiting_ = 0;        // guarded by mutex_
  uint32_t oldest_ = kNone;     // guarded by mutex_
  uint32_t newest_ = kNone;     // guarded by mutex_
  std::atomic<uint32_t> layer_waiters_{0};
};
}  // namespace terrace
