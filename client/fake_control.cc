// The control plane that leads to fake nodes.
#include "client/fake_node.h"

namespace terrace {

std::vector<std::unique_ptr<ControlChannel>> FakeControl::channels(
    std::span<const std::shared_ptr<Shared>> nodes) {
  std::vector<std::unique_ptr<ControlChannel>> channels;
  for (const auto& node : nodes) channels.push_back(std::make_unique<FakeControl>(node));
  return channels;
}

StatusOr<SessionOffer> FakeControl::open_session(const std::string&, Nanos timeout) {
  std::unique_lock lock(shared_->mutex);
  if (shared_->hangs) {
    shared_->changed.wait_for(lock, timeout, [this] { return shared_->shut_down; });
    return error(StatusCode::kDeadlineExceeded, "nobody answers");
  }
  if (shared_->node == nullptr) return error(StatusCode::kUnavailable, "nobody listens");
  SessionOffer offer;
  ++shared_->sessions;
  offer.secret[0] = static_cast<std::byte>(shared_->sessions & 0xFF);
  offer.secret[1] = static_cast<std::byte>(shared_->sessions >> 8 & 0xFF);
  offer.data_address = shared_->node->address();
  offer.node = {"fake", "0", 1};
  return offer;
}

StatusOr<uint32_t> FakeControl::open_namespace(const SessionSecret&, const std::string& name,
                                               const std::string&, Nanos) {
  const std::lock_guard lock(shared_->mutex);
  if (!shared_->refuse_namespace.ok()) return shared_->refuse_namespace;
  return static_cast<uint32_t>(name.size());
}

void FakeControl::shut_down() {
  const std::lock_guard lock(shared_->mutex);
  shared_->shut_down = true;
  shared_->changed.notify_all();
}
}  // namespace terrace
