#include "server/node/device_lender.h"

#include <string>
#include <utility>
#include <vector>

#include "proto/data.pb.h"
#include "proto/message_kind.h"

namespace terrace {
namespace {
constexpr Nanos kAskAgain = seconds(1);
}

DeviceLender::DeviceLender(Loop* loop, Transport* transport, Nanos grace)
    : loop_(loop),
      transport_(transport),
      grace_(grace),
      ask_again_([this] { ask(); }),
      rest_timer_([this] { rested(); }) {}

DeviceLender::~DeviceLender() {
  loop_->disarm(&ask_again_);
  loop_->disarm(&rest_timer_);
  static auto* const for_ever = new std::vector<std::shared_ptr<const DeviceLoan>>;
  for (const auto& [peer, borrower] : by_peer_) for_ever->push_back(borrower.loan);
  for (const auto& [free_at, loan] : resting_) for_ever->push_back(loan);
}

Status DeviceLender::lend(PeerId peer, std::shared_ptr<const DeviceLoan> loan) {
  const auto [found, first] = by_peer_.try_emplace(static_cast<uint64_t>(peer));
  if (first) {
    found->second.loan = std::move(loan);
    borrowers_.add();
  } else if (found->second.loan->id != loan->id) {
    return error(StatusCode::kFailedPrecondition,
                 "the node's device memory was called back: release the views in it first");
  }
  return ok_status();
}

void DeviceLender::call_back(uint64_t loan) {
  for (auto& [peer, borrower] : by_peer_) {
    if (borrower.loan->id == loan) borrower.called_back = true;
  }
  ask();
}

void DeviceLender::ask() {
  loop_->disarm(&ask_again_);
  bool any = false;
  for (const auto& [peer, borrower] : by_peer_) {
    if (!borrower.called_back) continue;
    any = true;
    proto::DeviceLoan body;
    body.set_id(borrower.loan->id);
    const std::string bytes = body.SerializeAsString();
    // One that is not sent is sent the next time.
    (void)transport_->send_message(PeerId{peer},
                                   {static_cast<uint16_t>(MessageKind::call_back_device), 0,
                                    std::as_bytes(std::span(bytes.data(), bytes.size())), true});
  }
  if (any) loop_->arm(&ask_again_, loop_->now() + kAskAgain);
}

void DeviceLender::given_back(PeerId peer, uint64_t loan) {
  const auto found = by_peer_.find(static_cast<uint64_t>(peer));
  if (found == by_peer_.end() || found->second.loan->id != loan) return;
  by_peer_.erase(found);
  borrowers_.sub();
}

void DeviceLender::peer_gone(PeerId peer) {
  const auto found = by_peer_.find(static_cast<uint64_t>(peer));
  if (found == by_peer_.end()) return;
  resting_.emplace_back(loop_->now() + grace_, std::move(found->second.loan));
  if (!rest_timer_.armed()) loop_->arm(&rest_timer_, resting_.front().first);
  by_peer_.erase(found);
  borrowers_.sub();
}

void DeviceLender::rested() {
  while (!resting_.empty() && resting_.front().first <= loop_->now()) resting_.pop_front();
  if (!resting_.empty()) loop_->arm(&rest_timer_, resting_.front().first);
}
}  // namespace terrace
