// storage/staging.h - 1 MiB buffers for bytes on their way from the device. When all are lent, who
// asks waits in line. Thread-confined.
#pragma once
#include <deque>
#include <functional>
#include <memory>
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
  StagingLease(Staging* pool, std::span<std::byte> buffer) : pool_(pool), buffer_(buffer) {}
  StagingLease(const StagingLease&) = delete;
  StagingLease& operator=(const StagingLease&) = delete;
  inline ~StagingLease();
  std::span<std::byte> buffer() const { return buffer_; }

 private:
  Staging* const pool_;
  const std::span<std::byte> buffer_;
};

class Staging {
 public:
  static constexpr size_t kBufferBytes = kMiB;
  static constexpr size_t kWaitersMax = 65536;
  /// Null: no buffer came back in time.
  using Ready = std::function<void(std::shared_ptr<StagingLease>)>;

  Staging(Loop* loop, BufferPool pool, Nanos patience)
      : loop_(loop), pool_(std::move(pool)), patience_(patience), late_([this] { give_up(); }) {}
  ~Staging() { loop_->disarm(&late_); }

  /// A buffer now, or null: then wait().
  std::shared_ptr<StagingLease> take() {
    if (!waiters_.empty()) return nullptr;
    return lend();
  }
  /// Calls `ready` when a buffer came back, or with null when none did for `patience`.
  /// kResourceExhausted: too many wait.
  Status wait(Ready ready) {
    if (waiters_.size() >= kWaitersMax) {
      return error(StatusCode::kResourceExhausted, "65536 reads wait for a staging buffer");
    }
    waiters_.push_back({loop_->now(), std::move(ready)});
    if (!late_.armed()) loop_->arm(&late_, loop_->now() + patience_);
    return ok_status();
  }
  std::span<std::byte> whole() { return pool_.whole(); }
  bool all_home() const { return pool_.free_count() == pool_.count(); }
  /// The kernel still writes into a buffer: the memory is never given back to the machine.
  void abandon() {
    static auto* const kept = new std::deque<BufferPool>;  // reachable, so no leak is reported
    kept->push_back(std::move(pool_));
  }

 private:
  friend class StagingLease;
  struct Waiter {
    Nanos since{0};
    Ready ready;
  };
  std::shared_ptr<StagingLease> lend() {
    const std::span<std::byte> buffer = pool_.take();
    return buffer.empty() ? nullptr : std::make_shared<StagingLease>(this, buffer);
  }
  void give_back(std::span<std::byte> buffer) {
    pool_.give_back(buffer);
    if (!waiters_.empty() && !serving_) {
      serving_ = true;  // on a turn of its own: a lease may die deep inside somebody's call
      loop_->defer([this] { serve(); });
    }
  }
  void serve() {
    serving_ = false;
    progress_ = loop_->now();
    while (!waiters_.empty()) {
      std::shared_ptr<StagingLease> lease = lend();
      if (lease == nullptr) return;
      const Ready ready = std::move(waiters_.front().ready);
      waiters_.pop_front();
      ready(std::move(lease));
    }
  }
  void give_up() {
    const Nanos now = loop_->now();
    std::deque<Ready> late;
    while (!waiters_.empty() && now - waiters_.front().since >= patience_ &&
           now - progress_ >= patience_) {
      late.push_back(std::move(waiters_.front().ready));
      waiters_.pop_front();
    }
    if (!waiters_.empty()) loop_->arm(&late_, now + patience_ / 4);
    for (const Ready& ready : late) ready(nullptr);
  }

  Loop* const loop_;
  BufferPool pool_;
  const Nanos patience_;
  std::deque<Waiter> waiters_;
  Nanos progress_{0};
  bool serving_ = false;
  Timer late_;
};

StagingLease::~StagingLease() {
  pool_->give_back(buffer_);
}
}  // namespace terrace
