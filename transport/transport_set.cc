#include "transport/transport_set.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "base/check.h"

namespace terrace {

/// Done when all transports have done their part; the first failure is the result. Owned by the
/// last part.
struct TransportSet::Joined {
  struct Part final : Op {
    void done(Status result) override {
      const std::shared_ptr<Joined> whole = std::move(of);
      whole->first_failure.update(result);
      if (--whole->left == 0) whole->op->done(whole->first_failure);
    }
    std::shared_ptr<Joined> of;
  };
  std::vector<std::unique_ptr<Part>> parts;
  size_t left = 0;
  Status first_failure;
  Op* op = nullptr;
};

void TransportSet::for_each(Op* op, const std::function<void(Transport*, Op*)>& start) {
  auto joined = std::make_shared<Joined>();
  joined->op = op;
  joined->left = all_.size();
  for (Transport* transport : all_) {
    joined->parts.push_back(std::make_unique<Joined::Part>());
    joined->parts.back()->of = joined;
    start(transport, joined->parts.back().get());
  }
}

void TransportSet::add(TransportKind kind, Transport* transport) {
  TERRACE_CHECK(by_kind_[static_cast<size_t>(kind)] == nullptr);
  by_kind_[static_cast<size_t>(kind)] = transport;
  all_.push_back(transport);
}

Transport* TransportSet::of(PeerId peer) const {
  const auto kind = static_cast<size_t>(kind_of(peer));
  return kind < by_kind_.size() ? by_kind_[kind] : nullptr;
}

StatusOr<RegionId> TransportSet::register_region(std::span<std::byte> memory) {
  Status refused;
  std::optional<RegionId> region;
  std::vector<Transport*> have;
  // All are asked, also after a refusal: their tables must see the same calls to give the same ids.
  for (Transport* transport : all_) {
    const StatusOr<RegionId> each = transport->register_region(memory);
    refused.update(each.status());
    if (!each.ok()) continue;
    TERRACE_CHECK(!region || *each == *region);
    region = *each;
    have.push_back(transport);
  }
  if (region && refused.ok()) return *region;
  // Full tables refuse all at once, so whoever has it was refused by one that closes: nothing
  // flies.
  for (Transport* transport : have) TERRACE_CHECK(transport->unregister_region(*region).ok());
  return refused.ok() ? error(StatusCode::kUnavailable, "no transport") : refused;
}

void TransportSet::when_prepared(RegionId region, Op* op) {
  for_each(op,
           [region](Transport* transport, Op* part) { transport->when_prepared(region, part); });
}

Status TransportSet::unregister_region(RegionId region) {
  if (region_in_use(region)) {
    return error(StatusCode::kFailedPrecondition,
                 "region " + std::to_string(static_cast<uint64_t>(region)) +
                     " is used by a transfer; cancel it and wait");
  }
  Status result;
  for (Transport* transport : all_) result.update(transport->unregister_region(region));
  return result;
}

bool TransportSet::region_in_use(RegionId region) const {
  return std::any_of(all_.begin(), all_.end(), [region](const Transport* transport) {
    return transport->region_in_use(region);
  });
}

void TransportSet::expect_memory(std::span<std::byte> memory) {
  for (Transport* transport : all_) transport->expect_memory(memory);
}
void TransportSet::forget_memory(std::span<std::byte> memory) {
  for (Transport* transport : all_) transport->forget_memory(memory);
}

Status TransportSet::send_message(PeerId to, const Message& message) {
  Transport* transport = of(to);
  return transport == nullptr ? Status(StatusCode::kUnavailable)
                              : transport->send_message(to, message);
}
Status TransportSet::write(PeerId to, const Write& write, Op* op) {
  Transport* transport = of(to);
  return transport == nullptr ? Status(StatusCode::kUnavailable) : transport->write(to, write, op);
}
Status TransportSet::read(PeerId from, const Read& read, Op* op) {
  Transport* transport = of(from);
  return transport == nullptr ? Status(StatusCode::kUnavailable) : transport->read(from, read, op);
}

void TransportSet::cancel(Op* op) {
  for (Transport* transport : all_) transport->cancel(op);  // those that do not have it do nothing
}

void TransportSet::quiesce(PeerId peer, uint64_t tag, Op* op) {
  if (Transport* transport = of(peer)) return transport->quiesce(peer, tag, op);
  loop_->defer(op, ok_status());
}

uint64_t TransportSet::queued_bytes(PeerId peer) const {
  const Transport* transport = of(peer);
  return transport == nullptr ? 0 : transport->queued_bytes(peer);
}

void TransportSet::close_peer(PeerId peer, Status why) {
  if (Transport* transport = of(peer)) transport->close_peer(peer, std::move(why));
}

void TransportSet::close(Op* op) {
  for_each(op, [](Transport* transport, Op* part) { transport->close(part); });
}
}  // namespace terrace
