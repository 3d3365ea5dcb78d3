// storage/hbm_transfers.h - copies between host and device memory. Each is started and ends on the
// loop and has a deadline: one that is over it hangs, and what it touches is the device's until it
// answers. Tells whether the device is worth asking. Thread-confined, but for what the
// accelerator's threads leave in the inbox.
#pragma once
#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "base/loop.h"
#include "kernels/accelerator.h"
#include "storage/chunk_store.h"

namespace terrace {

class HbmSpace;  // storage/hbm_space.h

class HbmTransfers {
 public:
  using Then = std::function<void(Status)>;
  enum class Direction : uint8_t { in, out };  // of device memory

  /// `unusable`: a copy hangs, or the device was given up. Called before those who wait for the
  /// copies hear of it.
  HbmTransfers(ChunkStore::Core& core, std::string device, std::function<void()> unusable);
  ~HbmTransfers();
  HbmTransfers(const HbmTransfers&) = delete;
  HbmTransfers& operator=(const HbmTransfers&) = delete;

  /// [offset, offset + all of `host`) of what lies in `space`, of `slab`. `hold` keeps `host`
  /// alive, for longer than `then` when the device hangs. `then`, on a later turn: OK,
  /// kUnavailable or kDeadlineExceeded.
  void start(Direction direction, DeviceSlab* slab, std::shared_ptr<HbmSpace> space,
             uint64_t offset, std::span<const iovec> host, std::shared_ptr<void> hold, Then then);
  /// False after errors that will not pass, or while a copy hangs.
  bool works() const { return !given_up_ && hanging() == 0; }
  /// It never works again.
  void give_up() { given_up_ = true; }
  /// Past their deadline; they may still touch memory.
  size_t hanging() const { return hanging_; }
  /// Those that hang included.
  size_t running() const { return transfers_.size(); }
  /// Since the start.
  uint64_t started() const { return last_; }
  /// What the copies that run touch; nobody hears of them any more.
  std::shared_ptr<void> leave();

 private:
  static constexpr uint32_t kErrorsMax = 3;  // in a row, then the device is given up
  struct Inbox;
  struct Transfer {
    Nanos deadline{0};
    std::shared_ptr<HbmSpace> space;
    std::shared_ptr<void> hold;
    Then then;  // empty: past its deadline
  };

  void collect();
  void look();
  void judge(const Status& result);

  ChunkStore::Core& core_;
  const std::string device_;
  const std::function<void()> unusable_;
  std::map<uint64_t, Transfer> transfers_;  // by number, so by deadline
  uint64_t last_ = 0;
  size_t hanging_ = 0;
  uint32_t errors_ = 0;  // in a row
  bool given_up_ = false;
  const std::shared_ptr<Inbox> inbox_;
  Timer timer_;
};
}  // namespace terrace
