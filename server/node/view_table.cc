#include "server/node/view_table.h"

#include <string>
#include <utility>

#include "base/check.h"

namespace terrace {

ViewTable::ViewTable(Loop* loop, ViewBoard* board, const ViewOptions& options)
    : loop_(loop), board_(board), options_(options), rest_timer_([this] { rested(); }) {
  limit(options.bytes_max);
  limit_device(options.device_bytes_max);
}

ViewTable::~ViewTable() {
  TERRACE_CHECK(views_.empty());
}

/// Those that have been held too long make room, once their grace is over.
void ViewTable::revoke_old(uint64_t bytes_wanted, bool on_device) {
  const Nanos oldest_allowed = loop_->now() - options_.hold_max;
  uint64_t won = 0;
  for (auto it = views_.begin(); it != views_.end() && won < bytes_wanted; ++it) {
    if (it->second.since > oldest_allowed) return;
    if (it->second.shown.on_device != on_device) continue;
    won += it->second.shown.bytes;
    if (it->second.resting) continue;
    metrics_.revoked.add();
    rest(it);
  }
}

Status ViewTable::Quota::check(uint64_t peer, uint64_t more, const char* limit, bool* fits) const {
  const auto found = by_peer.find(peer);
  const uint64_t held = found == by_peer.end() ? 0 : found->second;
  *fits = more <= bytes_max - std::min(bytes, bytes_max);
  if (*fits && held + more <= bytes_max / 2) return ok_status();
  return error(StatusCode::kResourceExhausted,
               "a view of " + std::to_string(more) + " bytes beside " + std::to_string(bytes) +
                   " in view, " + std::to_string(held) + " of them this client's; at most " +
                   limit + " = " + std::to_string(bytes_max) +
                   ", half of it for one client: release views, or fetch");
}

void ViewTable::Quota::take(uint64_t peer, uint64_t more) {
  bytes += more;
  by_peer[peer] += more;
}

void ViewTable::Quota::give_back(uint64_t peer, uint64_t less) {
  bytes -= less;
  const auto found = by_peer.find(peer);
  if ((found->second -= less) == 0) by_peer.erase(found);
}

StatusOr<ViewTable::Grant> ViewTable::grant(PeerId peer, Shown shown) {
  const auto who = static_cast<uint64_t>(peer);
  const uint64_t bytes = shown.bytes;
  const bool on_device = shown.on_device;
  bool fits = false;
  const char* const limit = on_device ? "a quarter of hbm-bytes" : "view-bytes-max";
  if (Status refused = quota(on_device).check(who, bytes, limit, &fits); !refused.ok()) {
    metrics_.refused.add();
    if (!fits) revoke_old(bytes, on_device);
    return refused;
  }
  const auto found = views_of_.find(who);
  const uint32_t held = found == views_of_.end() ? 0 : found->second;
  const bool many = held >= kViewsMax / 2;
  const uint32_t word = many ? ViewBoard::kWords : board_->take();
  if (word == ViewBoard::kWords) {
    metrics_.refused.add();
    if (!many) revoke_old(1, on_device);
    return error(StatusCode::kResourceExhausted,
                 std::to_string(views_.size()) + " views, " + std::to_string(held) +
                     " of them this client's; at most " + std::to_string(kViewsMax) +
                     ", half of them for one client: release some, or fetch");
  }
  const uint64_t id = next_id_++;
  views_[id] = {.peer = peer, .shown = std::move(shown), .word = word, .since = loop_->now()};
  quota(on_device).take(who, bytes);
  ++views_of_[who];
  metrics_.bytes.add(bytes);
  metrics_.views.add();
  if (on_device) metrics_.device.add();
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
  const Shown& shown = view->second.shown;
  const auto who = static_cast<uint64_t>(view->second.peer);
  if (!view->second.resting) invalidate(&view->second);
  board_->give_back(view->second.word);
  quota(shown.on_device).give_back(who, shown.bytes);
  metrics_.bytes.sub(shown.bytes);
  if (--views_of_.at(who) == 0) views_of_.erase(who);
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
  if (!views_of_.contains(static_cast<uint64_t>(peer))) return;
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
