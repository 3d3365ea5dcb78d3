// client/device_memory.h - the nodes' device memory that is open in this process, for views in it.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>

#include "base/loop.h"
#include "base/status.h"
#include "kernels/accelerator.h"
#include "proto/data.pb.h"
#include "transport/transport.h"

namespace terrace {

/// One loan of a node. Thread-safe.
class OpenDevice {
 public:
  OpenDevice(std::shared_ptr<Accelerator> accelerator, std::unique_ptr<OpenedSlab> slab,
             uint64_t loan, uint64_t bytes)
      : accelerator_(std::move(accelerator)), slab_(std::move(slab)), loan_(loan), bytes_(bytes) {}
  uint64_t loan() const { return loan_; }
  /// Device addresses; empty: not inside of it.
  std::span<const std::byte> at(uint64_t offset, uint64_t length) const;
  /// Fills `into` with what lies at a device address that at() gave. kUnavailable.
  Status read(const std::byte* from, std::span<std::byte> into) const;

 private:
  const std::shared_ptr<Accelerator> accelerator_;  // outlives the slab
  const std::unique_ptr<OpenedSlab> slab_;
  const uint64_t loan_;
  const uint64_t bytes_;
};

/// Opens what nodes lend, once, and closes it when it was called back and no view is left in it.
/// Loop thread.
class DeviceMemory {
 public:
  class Listener {
   public:
    /// It is closed here.
    virtual void device_given_back(PeerId peer, uint64_t loan) = 0;

   protected:
    ~Listener() = default;
  };
  /// `accelerator` may be null: then nothing can be opened.
  DeviceMemory(Loop* loop, std::shared_ptr<Accelerator> accelerator, Listener* listener);
  ~DeviceMemory();
  /// kFailedPrecondition: no accelerator; kInternal: what the node says is no loan, or a
  /// second one beside one that it has not had back; kUnavailable:
  /// the accelerator cannot open it; says why. The first time may take milliseconds.
  StatusOr<std::shared_ptr<const OpenDevice>> open(PeerId peer, const proto::DeviceLoan& loan);
  /// The node wants it back. One that is not open is given back at once.
  void called_back(PeerId peer, uint64_t loan);
  void session_gone(PeerId peer);

 private:
  struct Open {
    std::shared_ptr<const OpenDevice> device;
    bool called_back = false;
  };
  void close_unused();

  Loop* const loop_;
  const std::shared_ptr<Accelerator> accelerator_;
  Listener* const listener_;
  std::map<uint64_t, Open> open_;  // by peer: a node lends one at a time
  Timer timer_;
};
}  // namespace terrace
