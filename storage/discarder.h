// storage/discarder.h - tells a block device what it need not keep (BLKDISCARD). The call blocks,
// so a thread makes it, which starts with the first one. Thread-confined to its loop.
#pragma once
#include <cstdint>
#include <memory>

#include "base/loop.h"
#include "base/op.h"
#include "base/workers.h"

namespace terrace {

class Discarder {
 public:
  /// `fd` is a block device, open for writing; it and `loop` outlive this.
  Discarder(Loop* loop, int fd) : loop_(loop), fd_(fd) {}
  /// A call that hangs is given up: its `op` is never done.
  ~Discarder();

  /// As Device::discard; the range lies on the device.
  void discard(uint64_t offset, uint64_t bytes, Op* op);

 private:
  Loop* const loop_;
  const int fd_;
  std::unique_ptr<Workers> workers_;
};
}  // namespace terrace
