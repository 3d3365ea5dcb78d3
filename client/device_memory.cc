#include "client/device_memory.h"

#include <cstring>
#include <string>

namespace terrace {
namespace {
constexpr Nanos kLook = milliseconds(5);
}

std::span<const std::byte> OpenDevice::at(uint64_t offset, uint64_t length) const {
  if (offset > bytes_ || length > bytes_ - offset) return {};
  return {slab_->address() + offset, length};
}

Status OpenDevice::read(const std::byte* from, std::span<std::byte> into) const {
  const DeviceResult got = slab_->read(static_cast<uint64_t>(from - slab_->address()), into);
  return got.ok() ? ok_status() : error(StatusCode::kUnavailable, got.message);
}

DeviceMemory::DeviceMemory(Loop* loop, std::shared_ptr<Accelerator> accelerator, Listener* listener)
    : loop_(loop),
      accelerator_(std::move(accelerator)),
      listener_(listener),
      timer_([this] { close_unused(); }) {}

DeviceMemory::~DeviceMemory() {
  loop_->disarm(&timer_);
}

StatusOr<std::shared_ptr<const OpenDevice>> DeviceMemory::open(PeerId peer,
                                                               const proto::DeviceLoan& loan) {
  const auto found = open_.find(static_cast<uint64_t>(peer));
  if (found != open_.end() && found->second.device->loan() == loan.id()) {
    return found->second.device;
  }
  if (accelerator_ == nullptr) {
    return error(StatusCode::kFailedPrecondition, "ClientConfig::accelerator is not set");
  }
  if (found != open_.end()) {
    return error(StatusCode::kInternal, "node's reply to a view: device memory of loan " +
                                            std::to_string(loan.id()) + " beside loan " +
                                            std::to_string(found->second.device->loan()));
  }
  DeviceSlabHandle handle;
  if (loan.handle().size() != handle.bytes.size() || loan.bytes() == 0) {
    return error(StatusCode::kInternal, "node's reply to a view: device memory of " +
                                            std::to_string(loan.bytes()) + " bytes, a handle of " +
                                            std::to_string(loan.handle().size()));
  }
  std::memcpy(handle.bytes.data(), loan.handle().data(), handle.bytes.size());
  std::unique_ptr<OpenedSlab> slab;
  const DeviceResult opened = accelerator_->open_slab(handle, loan.bytes(), &slab);
  if (!opened.ok()) {
    return error(StatusCode::kUnavailable, "the node's device memory cannot be opened by " +
                                               accelerator_->name() + ": " + opened.message);
  }
  Open& here = open_[static_cast<uint64_t>(peer)];
  here.device =
      std::make_shared<const OpenDevice>(accelerator_, std::move(slab), loan.id(), loan.bytes());
  return here.device;
}

void DeviceMemory::called_back(PeerId peer, uint64_t loan) {
  const auto found = open_.find(static_cast<uint64_t>(peer));
  if (found == open_.end() || found->second.device->loan() != loan) {
    return listener_->device_given_back(peer, loan);
  }
  found->second.called_back = true;
  close_unused();
}

void DeviceMemory::session_gone(PeerId peer) {
  const auto found = open_.find(static_cast<uint64_t>(peer));
  if (found == open_.end()) return;
  found->second.called_back = true;
  close_unused();
}

void DeviceMemory::close_unused() {
  bool in_use = false;
  for (auto it = open_.begin(); it != open_.end();) {
    if (!it->second.called_back || it->second.device.use_count() > 1) {
      in_use = in_use || it->second.called_back;
      ++it;
      continue;
    }
    const PeerId peer{it->first};
    const uint64_t loan = it->second.device->loan();
    it = open_.erase(it);
    listener_->device_given_back(peer, loan);
  }
  // The engine lets go of views on threads of its own.
  if (in_use && !timer_.armed()) loop_->arm(&timer_, loop_->now() + kLook);
}
}  // namespace terrace
