// storage/staging.h - 1 MiB buffers for bytes on their way from the device, shared fairly: a reader
// that does not let go of what it has (a client that stopped taking bytes) must not keep the others
// from theirs. Thread-confined.
#pragma once
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "base/buffer.h"
#include "base/limits.h"
#include "base/loop.h"

namespace terrace {

class Staging;

/// A lent buffer; back in the pool on destruction.
class StagingLease {
 public:
  StagingLease(Staging* pool, uint64_t owner, std::span<std::byte> buffer)
      : pool_(pool), owner_(owner), buffer_(buffer) {}
  StagingLease(const StagingLease&) = delete;
  StagingLease& operator=(const StagingLease&) = delete;
  ~StagingLease();
  std::span<std::byte> buffer() const { return buffer_; }
  /// A device that hangs has the buffer, who knows how long: it counts as nobody's until it is
  /// back.
  void disown();

 private:
  Staging* const pool_;
  std::optional<uint64_t> owner_;
  const std::span<std::byte> buffer_;
};

/// An owner has at most a quarter of the buffers. The last quarter is for owners that have none.
class Staging {
 public:
  static constexpr size_t kBufferBytes = kMiB;
  static constexpr size_t kWaitersMax = 65536;
  /// Null: no buffer came back in time.
  using Ready = std::function<void(std::shared_ptr<StagingLease>)>;

  /// `patience`: how long who waits does without one of its owner's buffers coming back.
  Staging(Loop* loop, BufferPool pool, Nanos patience);
  ~Staging();

  /// A buffer now, or null: then wait(). `owner`: whose buffers count together.
  std::shared_ptr<StagingLease> take(uint64_t owner);
  /// Calls `ready` when there is a buffer, owners in turn, or with null when there was none for
  /// `patience`. kResourceExhausted: too many wait.
  Status wait(uint64_t owner, Ready ready);
  size_t buffers() const { return pool_.count(); }
  std::span<std::byte> whole() { return pool_.whole(); }
  bool all_home() const { return pool_.free_count() == pool_.count(); }
  /// The kernel still writes into a buffer: the memory is never given back to the machine.
  void abandon();

 private:
  friend class StagingLease;
  struct Waiter {
    Nanos since{0};
    Ready ready;
  };
  struct Owner {
    size_t held = 0;
    Nanos progress{0};  // a buffer was lent to it
    std::deque<Waiter> waiters;
  };
  bool may_have(const Owner& owner) const;
  std::shared_ptr<StagingLease> lend(uint64_t name, Owner* owner);
  void count_back(uint64_t owner);
  void look_soon();
  void serve();
  bool serve_one();
  void give_up();

  Loop* const loop_;
  BufferPool pool_;
  const Nanos patience_;
  std::map<uint64_t, Owner> owners_;  // those that hold or wait
  uint64_t last_served_ = 0;
  size_t waiting_ = 0;
  bool serving_ = false;
  Timer late_;
};
}  // namespace terrace
