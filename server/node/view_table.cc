#include "server/node/view_table.h"

#include <string>
#include <utility>

#include "base/check.h"

namespace terrace {

ViewTable::ViewTable(Loop* loop, ViewBoard* board, const ViewOptions& options)
    : loop_(loop), board_(board), options_(options), rest_timer_([this] { rested(); }) {}

ViewTable::~ViewTable() {
  TERRACE_CHECK(views_.empty());
}

/// Those that have been held too long make room, once their grace is over.
void ViewTable::revoke_old(uint64_t bytes_wanted) {
  const Nanos oldest_allowed = loop_->now() - options_.hold_max;
  uint64_t won = 0;
  for (auto it = views_.begin(); it != views_.end() && won < bytes_wanted; ++it) {
    if (it->second.since > oldest_allowed) return;
    won += it->second.shown.bytes;
    if (it->second.resting) continue;
    metrics_.revoked.add();
    rest(it);
  }
}

StatusOr<ViewTable::Grant> ViewTable::grant(PeerId peer, Shown shown) {
  const uint64_t bytes = shown.bytes;
  Share& of_peer = by_peer_[static_cast<uint64_t>(peer)];
  const bool fits = bytes <= options_.bytes_max - std::min(bytes_, options_.bytes_max);
  if (!fits || of_peer.bytes + bytes > options_.bytes_max / 2) {
    metrics_.refused.add();
    if (!fits) revoke_old(bytes);
    const uint64_t held = of_peer.bytes;
    if (of_peer.views == 0) by_peer_.erase(static_cast<uint64_t>(peer));
    return error(StatusCode::kResourceExhausted,
                 "a view of " + std::to_string(bytes) + " bytes beside " + std::to_string(bytes_) +
                     " in view, " + std::to_string(held) +
                     " of them this client's; at most view-bytes-max = " +
                     std::to_string(options_.bytes_max) +
                     ", half of it for one client: release views, or fetch");
  }
  const bool many = of_peer.views >= kViewsMax / 2;
  const uint32_t word = many ? ViewBoard::kWords : board_->take();
  if (word == ViewBoard::kWords) {
    metrics_.refused.add();
    if (!many) revoke_old(1);
    if (of_peer.views == 0) by_peer_.erase(static_cast<uint64_t>(peer));
    return error(StatusCode::kResourceExhausted,
                 std::to_string(views_.size()) + " views, " + std::to_string(of_peer.views) +
                     " of them this client's; at most " + std::to_string(kViewsMax) +
                     ", half of them for one client: release some, or fetch");
  }
  const uint64_t id = next_id_++;
  if (shown.on_device) metrics_.device.add();
  views_[id] = {.peer = peer, .shown = std::move(shown), .word = word, .since = loop_->now()};
  bytes_ += bytes;
  of_peer.bytes += bytes;
  ++of_peer.views;
  metrics_.bytes.add(bytes);
  metrics_.views.add();
  metrics_.granted.add();
  return Grant{id, board_->value(word), board_->address(word)};
}

void ViewTable::invalidate(View* view) {
  board_->advance(view->word);
  metrics_.views.sub();
  if (view->shown.on_device) metrics_.device.sub();
}

/// A reader may be in the middle of a copy: it learns of it now, and the bytes wait.
void ViewTable::rest(Views::iterator view) {
  invalidate(&view->second);
  view->second.resting = true;
  resting_.emplace_back(loop_->now() + options_.grace, view->first);
  if (!rest_timer_.armed()) loop_->arm(&rest_timer_, resting_.front().first);
}

ViewTable::Views::iterator ViewTable::drop(Views::iterator view) {
  if (!view->second.resting) invalidate(&view->second);
  board_->give_back(view->second.word);
  bytes_ -= view->second.shown.bytes;
  metrics_.bytes.sub(view->second.shown.bytes);
  const auto peer = by_peer_.find(static_cast<uint64_t>(view->second.peer));
  peer->second.bytes -= view->second.shown.bytes;
  if (--peer->second.views == 0) by_peer_.erase(peer);
  return views_.erase(view);
}

void ViewTable::rested() {
  while (!resting_.empty() && resting_.front().first <= loop_->now()) {
    const auto view = views_.find(resting_.front().second);
    if (view != views_.end()) drop(view);
    resting_.pop_front();
  }
  if (!resting_.empty()) loop_->arm(&rest_timer_, resting_.front().first);
}

void ViewTable::release(PeerId peer, uint64_t id) {
  const auto view = views_.find(id);
  if (view != views_.end() && view->second.peer == peer) drop(view);
}

void ViewTable::peer_gone(PeerId peer) {
  if (!by_peer_.contains(static_cast<uint64_t>(peer))) return;
  for (auto it = views_.begin(); it != views_.end(); ++it) {
    if (it->second.peer == peer && !it->second.resting) rest(it);
  }
}

void ViewTable::condemn(const ChunkKey& key) {
  for (auto it = views_.begin(); it != views_.end(); ++it) {
    if (!it->second.resting && it->second.shown.key == key) rest(it);
  }
}

void ViewTable::revoke_device() {
  for (auto it = views_.begin(); it != views_.end(); ++it) {
    if (it->second.resting || !it->second.shown.on_device) continue;
    metrics_.revoked.add();
    rest(it);
  }
}

void ViewTable::close() {
  loop_->disarm(&rest_timer_);
  resting_.clear();
  for (auto it = views_.begin(); it != views_.end();) it = drop(it);
}
}  // namespace terrace
