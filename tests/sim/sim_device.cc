#include "tests/sim/sim_device.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace terrace::sim {

SimDevice::SimDevice(SimDisk* disk, uint64_t bytes, Loop* loop, Nanos io_timeout)
    : disk_(disk),
      bytes_(bytes),
      loop_(loop),
      io_timeout_(io_timeout),
      alive_(std::make_shared<bool>(true)),
      timeout_([this] { time_out_before(loop_->now() - io_timeout_); }) {}

SimDevice::~SimDevice() {
  *alive_ = false;
  if (timeout_.armed()) loop_->disarm(&timeout_);
}

void SimDevice::read(uint64_t offset, std::span<std::byte> into, Op* op) {
  Pending pending;
  pending.at = offset;
  pending.into = into;
  pending.op = op;
  start(pending);
}
void SimDevice::write(uint64_t offset, std::span<const std::byte> from, Op* op) {
  Pending pending;
  pending.kind = Kind::write;
  pending.at = offset;
  pending.from = from;
  pending.op = op;
  start(pending);
}
void SimDevice::sync(Op* op) {
  Pending pending;
  pending.kind = Kind::sync;
  pending.op = op;
  pending.writes_before = writes_done_;
  start(pending);
}

void SimDevice::discard(uint64_t offset, uint64_t bytes, Op* op) {
  TERRACE_CHECK(bytes > 0 && bytes <= kDiscardBytesMax);
  TERRACE_CHECK(offset % kSectorBytes == 0 && bytes % kSectorBytes == 0);
  Pending pending;
  pending.kind = Kind::discard;
  pending.at = offset;
  pending.discarded = bytes;
  pending.op = op;
  start(pending);
}

void SimDevice::resize(uint64_t bytes, Op* op) {
  TERRACE_CHECK(bytes > 0 && bytes % kSectorBytes == 0);
  Pending pending;
  pending.kind = Kind::resize;
  pending.size = bytes;
  pending.op = op;
  start(pending);
}

void SimDevice::cancel_resize() {
  for (Pending& pending : pending_) pending.cancelled |= pending.kind == Kind::resize;
}

void SimDevice::start(Pending pending) {
  if (pending.kind == Kind::read || pending.kind == Kind::write) {
    const size_t bytes = std::max(pending.into.size(), pending.from.size());
    const void* memory = pending.kind == Kind::read ? static_cast<const void*>(pending.into.data())
                                                    : pending.from.data();
    TERRACE_CHECK(bytes > 0 && bytes % kSectorBytes == 0 && pending.at % kSectorBytes == 0);
    TERRACE_CHECK(reinterpret_cast<uintptr_t>(memory) % kSectorBytes == 0);
  }
  if (loop_ != nullptr) pending.since = loop_->now();
  pending_.push_back(pending);
  if (loop_ == nullptr) return;
  loop_->defer([this, alive = alive_] {
    if (*alive) step();
  });
  arm_timeout();
}

bool SimDevice::step() {
  if (pending_.empty() || hanging_ || !disk_->powered()) return false;
  const auto it = pending_.begin() + static_cast<std::ptrdiff_t>(disk_->below(pending_.size()));
  Pending chosen = *it;
  if (!disk_->step()) return false;
  pending_.erase(it);
  end(&chosen);
  return true;
}

void SimDevice::end(Pending* pending) {
  const uint64_t number = ended_++;
  const uint64_t moved = std::max(pending->into.size(), pending->from.size());
  const uint64_t bytes = std::max(moved, pending->discarded);
  Status result;
  if (failure_ && number >= failure_->at) {
    result = failure_->error;
    if (!failure_->persistent) failure_.reset();
  } else if (pending->at > bytes_ || bytes > bytes_ - pending->at) {
    result = error(StatusCode::kOutOfRange, "past the end of the simulated device");
  } else if (pending->kind == Kind::read) {
    copy_from_current(pending->at, pending->into);
  } else if (pending->kind == Kind::write) {
    copy_to(&volatile_, pending->at, pending->from);
    unsynced_.push_back(
        {pending->at, {pending->from.begin(), pending->from.end()}, writes_done_++});
  } else if (pending->kind == Kind::discard) {
    const uint64_t from = pending->at - std::min(pending->at, too_much_);
    forget(from, std::min(pending->at + bytes + too_much_, bytes_) - from);
  } else if (pending->cancelled) {
    result = error(StatusCode::kCancelled, "the resize was called off");
  } else if (pending->kind == Kind::resize) {
    become(pending->size);
  } else if (honest_) {
    // A later write may be kept as well; the promise covers only those done before the call.
    const auto kept = std::stable_partition(
        unsynced_.begin(), unsynced_.end(),
        [&](const Written& written) { return written.number >= pending->writes_before; });
    for (auto it = kept; it != unsynced_.end(); ++it) copy_to(&durable_, it->at, it->bytes);
    unsynced_.erase(kept, unsynced_.end());
  }
  if (pending->op != nullptr) pending->op->done(std::move(result));
}

void SimDevice::restart(Loop* loop) {
  *alive_ = false;
  alive_ = std::make_shared<bool>(true);
  if (timeout_.armed()) loop_->disarm(&timeout_);
  loop_ = loop;
  for (const Written& written : unsynced_) survive(written);
  for (std::vector<Pending>* list : {&pending_, &late_}) {
    for (const Pending& pending : *list) {
      if (pending.kind == Kind::discard) forget(pending.at, pending.discarded);
      if (pending.kind == Kind::resize && disk_->below(2) == 0) become(pending.size);
      if (pending.kind != Kind::write || pending.from.empty()) continue;
      // Its memory may be gone with its owner: what got through is not known, so it is garbage.
      for (uint64_t at = 0; at < pending.from.size(); at += kSectorBytes) {
        if (pending.at + at < bytes_ && disk_->below(2) == 0) {
          disk_->garble(sector_of(&durable_, (pending.at + at) / kSectorBytes));
        }
      }
    }
    list->clear();
  }
  unsynced_.clear();
  volatile_.clear();
  failure_.reset();
  hanging_ = false;
  released_ = nullptr;
}

/// Each sector on its own: kept, lost, or garbage.
void SimDevice::survive(const Written& written) {
  for (uint64_t at = 0; at < written.bytes.size(); at += kSectorBytes) {
    Sector& sector = sector_of(&durable_, (written.at + at) / kSectorBytes);
    switch (disk_->below(3)) {
      case 0:
        std::memcpy(sector.data(), written.bytes.data() + at, kSectorBytes);
        break;
      case 1:
        disk_->garble(sector);
        break;
      default:
        break;
    }
  }
}

/// What is cut off is gone for good: it is not there again when the device grows.
void SimDevice::become(uint64_t bytes) {
  if (bytes < bytes_) bytes -= cut_too_much_;
  for (Medium* medium : {&durable_, &volatile_}) {
    std::erase_if(*medium,
                  [&](const auto& sector) { return sector.first >= bytes / kSectorBytes; });
  }
  std::erase_if(unsynced_, [&](const Written& written) { return written.at >= bytes; });
  bytes_ = bytes;
}

/// Not ordered with what was written before and is not synced: nobody may rely on what is there.
void SimDevice::forget(uint64_t at, uint64_t bytes) {
  const uint64_t first = at / kSectorBytes;
  const uint64_t end = first + bytes / kSectorBytes;
  for (Medium* medium : {&durable_, &volatile_}) {
    for (auto it = medium->begin(); it != medium->end();) {
      const bool inside = it->first >= first && it->first < end;
      const bool garbage = inside && disk_->below(2) == 0;
      if (garbage) disk_->garble(*it->second);
      it = inside && !garbage ? medium->erase(it) : std::next(it);
    }
  }
}

void SimDevice::fail(uint64_t skip, Status error, bool persistent) {
  failure_ = Failure{ended_ + skip, std::move(error), persistent};
}

void SimDevice::arm_timeout() {
  if (loop_ == nullptr || timeout_.armed() || pending_.empty()) return;
  loop_->arm(&timeout_, pending_.front().since + io_timeout_);
}

void SimDevice::time_out() {
  time_out_before(Nanos::max());
}

void SimDevice::time_out_before(Nanos limit) {
  std::vector<Op*> ops;
  if (hanging_ && disk_->powered()) {
    const auto rest = std::stable_partition(pending_.begin(), pending_.end(),
                                            [&](const Pending& p) { return p.since <= limit; });
    for (auto it = pending_.begin(); it != rest; ++it) {
      ops.push_back(std::exchange(it->op, nullptr));
      late_.push_back(*it);
    }
    pending_.erase(pending_.begin(), rest);
  }
  if (loop_ != nullptr && !pending_.empty() && !timeout_.armed()) {
    loop_->arm(&timeout_, loop_->now() + io_timeout_);
  }
  for (Op* op : ops) op->done(error(StatusCode::kDeadlineExceeded, "the simulated device hangs"));
}

void SimDevice::let_go() {
  hanging_ = false;
  std::vector<Pending> late = std::exchange(late_, {});
  for (Pending& pending : late) {
    end(&pending);
    const std::span<const std::byte> memory =
        pending.kind == Kind::read ? std::span<const std::byte>(pending.into) : pending.from;
    if (!memory.empty() && released_) released_(memory);
  }
  answer_again();
}

void SimDevice::answer_again() {
  hanging_ = false;
  if (loop_ == nullptr) return;
  for (size_t i = 0; i < pending_.size(); ++i) {
    loop_->defer([this, alive = alive_] {
      if (*alive) step();
    });
  }
}

void SimDevice::flip_bit(uint64_t offset, unsigned bit) {
  for (Medium* medium : {&durable_, &volatile_}) {
    const auto it = medium->find(offset / kSectorBytes);
    if (it == medium->end()) continue;
    (*it->second)[offset % kSectorBytes] ^= static_cast<std::byte>(1u << (bit % 8));
  }
}

SimDevice::Sector& SimDevice::sector_of(Medium* medium, uint64_t number) {
  std::unique_ptr<Sector>& sector = (*medium)[number];
  if (sector == nullptr) sector = std::make_unique<Sector>();
  return *sector;
}

void SimDevice::copy_to(Medium* medium, uint64_t at, std::span<const std::byte> bytes) {
  for (uint64_t done = 0; done < bytes.size(); done += kSectorBytes) {
    Sector& sector = sector_of(medium, (at + done) / kSectorBytes);
    std::memcpy(sector.data(), bytes.data() + done, kSectorBytes);
  }
}

void SimDevice::copy_from_current(uint64_t at, std::span<std::byte> into) const {
  for (uint64_t done = 0; done < into.size(); done += kSectorBytes) {
    const uint64_t number = (at + done) / kSectorBytes;
    auto it = volatile_.find(number);
    if (it == volatile_.end()) it = durable_.find(number);
    if (it == durable_.end()) {
      std::memset(into.data() + done, 0, kSectorBytes);
    } else {
      std::memcpy(into.data() + done, it->second->data(), kSectorBytes);
    }
  }
}
}  // namespace terrace::sim
