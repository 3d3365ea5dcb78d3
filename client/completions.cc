#include "client/completions.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "base/check.h"
#include "base/limits.h"

namespace terrace {
namespace {

constexpr uint32_t kSlotBits = 16;
constexpr uint64_t kLostBit = 1u << 15;
static_assert(kLayersMax < kLostBit);
constexpr std::chrono::milliseconds kLongestWait = std::chrono::hours(24);

uint32_t index_of(OpId op) {
  return static_cast<uint32_t>(static_cast<uint64_t>(op) & ((1u << kSlotBits) - 1));
}
uint64_t generation_of(OpId op) {
  return static_cast<uint64_t>(op) >> kSlotBits;
}

std::chrono::milliseconds bounded(std::chrono::milliseconds timeout) {
  return std::clamp(timeout, std::chrono::milliseconds(0), kLongestWait);
}

Status unknown() {
  return error(StatusCode::kNotFound, "operation was never started, or its completion was taken");
}
}  // namespace

Completions::Completions(uint32_t live_max)
    : live_max_(live_max),
      event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      slots_(size_t{live_max} * (kWaitingFactor + 1)) {
  TERRACE_CHECK(static_cast<bool>(event_));
  TERRACE_CHECK(slots_.size() <= (size_t{1} << kSlotBits));
  for (size_t i = slots_.size(); i > 0; --i) free_.push_back(static_cast<uint32_t>(i - 1));
}

Completions::Slot* Completions::find(OpId op) {
  return const_cast<Slot*>(std::as_const(*this).find(op));
}

const Completions::Slot* Completions::find(OpId op) const {
  const uint32_t index = index_of(op);
  if (index >= slots_.size()) return nullptr;
  const Slot& slot = slots_[index];
  return slot.state != State::free && slot.generation == generation_of(op) ? &slot : nullptr;
}

StatusOr<OpId> Completions::begin(std::vector<uint32_t> put_sections) {
  const std::lock_guard lock(mutex_);
  if (live_ >= live_max_) {
    return error(StatusCode::kResourceExhausted,
                 "operations in flight: " + std::to_string(live_max_) + " (operations_max)");
  }
  if (waiting_ + live_ >= live_max_ * kWaitingFactor) {
    return error(StatusCode::kResourceExhausted,
                 "completions not drained: " + std::to_string(waiting_) + "; at most " +
                     std::to_string(live_max_ * kWaitingFactor) + " (4 x operations_max)");
  }
  const uint32_t index = free_.back();
  free_.pop_back();
  Slot& slot = slots_[index];
  slot.state = State::live;
  ++slot.generation;
  slot.put_sections = std::move(put_sections);
  slot.lost.clear();
  slot.lost_why = ok_status();
  slot.layers.store(slot.generation << kSlotBits, std::memory_order_release);
  ++live_;
  return OpId{slot.generation << kSlotBits | index};
}

void Completions::free_slot(uint32_t index) {
  slots_[index].state = State::free;
  free_.push_back(index);
}

void Completions::abandon(OpId op) {
  const std::lock_guard lock(mutex_);
  Slot* slot = find(op);
  TERRACE_CHECK(slot != nullptr && slot->state == State::live);
  --live_;
  free_slot(index_of(op));
}

void Completions::publish(Completion completion) {
  const OpId op = completion.op;
  auto boxed = std::make_unique<Completion>(std::move(completion));
  const std::lock_guard lock(mutex_);
  Slot* slot = find(op);
  TERRACE_CHECK(slot != nullptr && slot->state == State::live);
  slot->completion = std::move(boxed);
  slot->state = State::waiting;
  slot->put_sections.clear();
  const uint32_t index = index_of(op);
  slot->previous = newest_;
  slot->next = kNone;
  (newest_ == kNone ? oldest_ : slots_[newest_].next) = index;
  newest_ = index;
  --live_;
  if (waiting_++ == 0) say_waiting();
  changed_.notify_all();
}

void Completions::say_waiting() {
  const uint64_t one = 1;
  TERRACE_CHECK(::write(event_.get(), &one, sizeof(one)) == sizeof(one));
}

/// After some were taken. The engine may have cleared the event itself, as event loops do: then
/// there is nothing to read, and it is told again of those that still wait.
void Completions::settle_event() {
  if (waiting_ > 0) return say_waiting();
  uint64_t count = 0;
  TERRACE_CHECK(::read(event_.get(), &count, sizeof(count)) == sizeof(count) || errno == EAGAIN);
}

Completion Completions::take(uint32_t index) {
  Slot& slot = slots_[index];
  TERRACE_CHECK(slot.state == State::waiting);
  (slot.previous == kNone ? oldest_ : slots_[slot.previous].next) = slot.next;
  (slot.next == kNone ? newest_ : slots_[slot.next].previous) = slot.previous;
  --waiting_;
  const std::unique_ptr<Completion> completion = std::move(slot.completion);
  free_slot(index);
  return std::move(*completion);
}

size_t Completions::drain(std::span<Completion> out) {
  const std::lock_guard lock(mutex_);
  size_t taken = 0;
  while (taken < out.size() && oldest_ != kNone) out[taken++] = take(oldest_);
  if (taken > 0) settle_event();
  return taken;
}

StatusOr<Completion> Completions::wait(OpId op, std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  const Slot* slot = nullptr;
  const bool ended = changed_.wait_for(lock, bounded(timeout), [&] {
    slot = find(op);
    return slot == nullptr || slot->state == State::waiting;
  });
  if (!ended) {
    return error(StatusCode::kDeadlineExceeded,
                 "operation still runs after " + std::to_string(timeout.count()) + " ms");
  }
  if (slot == nullptr) return unknown();
  Completion taken = take(index_of(op));
  settle_event();
  return taken;
}

void Completions::set_layers(OpId op, uint32_t layers) {
  Slot& slot = slots_[index_of(op)];
  // Only this thread writes the word of a live operation.
  slot.layers.store(generation_of(op) << kSlotBits | (slot.layers.load() & kLostBit) | layers);
  // Sequentially consistent against wait_layer: either it sees the new number, or we see it wait.
  if (layer_waiters_.load() == 0) return;
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

void Completions::lose(OpId op, std::span<const uint32_t> items, const Status& why) {
  TERRACE_CHECK(!why.ok());
  const std::lock_guard lock(mutex_);
  Slot* slot = find(op);
  TERRACE_CHECK(slot != nullptr && slot->state == State::live);
  slot->lost.insert(slot->lost.end(), items.begin(), items.end());
  slot->lost_why.update(why);
  slot->layers.fetch_or(kLostBit);
}

uint64_t Completions::word_of(OpId op) const {
  const uint32_t index = index_of(op);
  if (index >= slots_.size()) return 0;
  const uint64_t word = slots_[index].layers.load();
  return word >> kSlotBits == generation_of(op) ? word : 0;
}

uint32_t Completions::layers(OpId op) const {
  return static_cast<uint32_t>(word_of(op) & (kLostBit - 1));
}

StatusOr<std::vector<uint32_t>> Completions::keys_lost(OpId op) const {
  std::vector<uint32_t> lost;
  const std::lock_guard lock(mutex_);
  const Slot* slot = find(op);
  if (slot == nullptr) return unknown();
  if (slot->state == State::live) {
    lost = slot->lost;
    std::sort(lost.begin(), lost.end());
    return lost;
  }
  const std::vector<StatusCode>& codes = slot->completion->key_codes;
  for (uint32_t i = 0; i < codes.size(); ++i) {
    if (codes[i] != StatusCode::kOk) lost.push_back(i);
  }
  return lost;
}

Status Completions::wait_layer(OpId op, uint32_t layer, std::chrono::milliseconds timeout) {
  const auto ready = [&] { return layers(op) > layer; };
  // Both facts of one word: the slot may be used again between two looks.
  const auto whole = [&] {
    const uint64_t word = word_of(op);
    return (word & (kLostBit - 1)) > layer && (word & kLostBit) == 0;
  };
  if (whole()) return ok_status();
  std::unique_lock lock(mutex_);
  layer_waiters_.fetch_add(1);
  const Slot* slot = nullptr;
  const bool ended = changed_.wait_for(lock, bounded(timeout), [&] {
    slot = find(op);
    return ready() || slot == nullptr || slot->state == State::waiting;
  });
  layer_waiters_.fetch_sub(1);
  if (ready()) {
    if (whole()) return ok_status();
    return slot == nullptr ? unknown() : slot->lost_why;
  }
  if (!ended) {
    return error(StatusCode::kDeadlineExceeded, "layer " + std::to_string(layer) +
                                                    " is not ready after " +
                                                    std::to_string(timeout.count()) + " ms");
  }
  if (slot == nullptr) return unknown();
  if (!slot->completion->status.ok()) return slot->completion->status;
  return error(StatusCode::kOutOfRange, "layer " + std::to_string(layer) + " of a fetch of " +
                                            std::to_string(layers(op)) + " layers");
}

Status Completions::check_source(OpId op, uint32_t item, uint32_t first, uint32_t count) const {
  const std::lock_guard lock(mutex_);
  const Slot* slot = find(op);
  if (slot == nullptr || slot->state != State::live || slot->put_sections.empty()) {
    return error(StatusCode::kNotFound, "this put has ended, or is none");
  }
  if (item >= slot->put_sections.size()) {
    return error(StatusCode::kInvalidArgument, "source_ready: item " + std::to_string(item) +
                                                   " of a put of " +
                                                   std::to_string(slot->put_sections.size()));
  }
  const uint32_t sections = slot->put_sections[item];
  if (count == 0 || first >= sections || count > sections - first) {
    return error(StatusCode::kInvalidArgument, "source_ready: " + std::to_string(count) +
                                                   " sections from " + std::to_string(first) +
                                                   " of " + std::to_string(sections));
  }
  return ok_status();
}
}  // namespace terrace
