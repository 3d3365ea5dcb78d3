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

/// Whose buffers count together: those of an owner for reads of one device.
struct StagingUser {
  uint64_t owner = 0;
  uint16_t device = 0;  // its place
  auto operator<=>(const StagingUser&) const = default;
};

/// A lent buffer; back in the pool on destruction.
class StagingLease {
 public:
  StagingLease(Staging* pool, const StagingUser& user, std::span<std::byte> buffer)
      : pool_(pool), user_(user), buffer_(buffer) {}
  StagingLease(const StagingLease&) = delete;
  StagingLease& operator=(const StagingLease&) = delete;
  ~StagingLease();
  std::span<std::byte> buffer() const { return buffer_; }
  /// A device that hangs has the buffer, who knows how long: it counts as nobody's until it is
  /// back.
  void disown();

 private:
  Staging* const pool_;
  std::optional<StagingUser> user_;
  const std::span<std::byte> buffer_;
};

/// A user has at most a quarter of the buffers. The last quarter is for users that have none. Reads
/// of one of several devices never have all, so that one that hangs, and keeps what it got, leaves
/// some for the others.
class Staging {
 public:
  static constexpr size_t kBufferBytes = kMiB;
  static constexpr size_t kWaitersMax = 65536;
  /// Null: no buffer came back in time.
  using Ready = std::function<void(std::shared_ptr<StagingLease>)>;

  /// `patience`: how long who waits does without one of its user's buffers coming back. `devices`:
  /// how many there are to read from.
  Staging(Loop* loop, BufferPool pool, Nanos patience, size_t devices = 1);
  ~Staging();

  /// A buffer now, or null: then wait().
  std::shared_ptr<StagingLease> take(const StagingUser& user);
  /// Calls `ready` when there is a buffer, users in turn, or with null when there was none for
  /// `patience`. kResourceExhausted: too many wait.
  Status wait(const StagingUser& user, Ready ready);
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
  struct User {
    size_t held = 0;
    Nanos progress{0};  // a buffer was lent to it
    std::deque<Waiter> waiters;
  };
  bool may_have(const StagingUser& name, const User& user) const;
  std::shared_ptr<StagingLease> lend(const StagingUser& name, User* user);
  void count_back(const StagingUser& name);
  void look_soon();
  void serve();
  bool serve_one();
  void give_up();

  Loop* const loop_;
  BufferPool pool_;
  const Nanos patience_;
  const size_t device_max_;               // buffers that reads of one device may have
  std::map<StagingUser, User> users_;     // those that hold or wait
  std::map<uint16_t, size_t> of_device_;  // buffers lent, by device
  StagingUser last_served_;
  size_t waiting_ = 0;
  bool serving_ = false;
  Timer late_;
};
}  // namespace terrace
