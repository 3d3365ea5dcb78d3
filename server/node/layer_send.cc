#include "server/node/layer_send.h"

#include <algorithm>

#include "base/crc32c.h"
#include "base/limits.h"

namespace terrace {
namespace {

constexpr uint64_t kFirstWindowBytes = kMiB;
constexpr uint64_t kCombinedBytesMax = 128 * kKiB;  // of a frame of several slots
constexpr Nanos kRetryPeriod = milliseconds(1);

uint32_t first_unit(const Piece& piece) {
  return static_cast<uint32_t>(piece.offset / kCrcUnitBytes);
}

/// Bytes [skip, skip + bytes) of a gathered buffer.
std::vector<iovec> trimmed(std::span<const iovec> pieces, uint64_t skip, uint64_t bytes) {
  std::vector<iovec> out;
  for (const iovec& piece : pieces) {
    if (skip >= piece.iov_len) {
      skip -= piece.iov_len;
      continue;
    }
    const uint64_t length = std::min<uint64_t>(piece.iov_len - skip, bytes);
    if (length == 0) break;
    out.push_back({static_cast<std::byte*>(piece.iov_base) + skip, length});
    bytes -= length;
    skip = 0;
  }
  TERRACE_CHECK(bytes == 0);
  return out;
}

uint32_t crc_of(std::span<const iovec> pieces, uint32_t seed) {
  for (const iovec& piece : pieces) {
    seed = crc32c({static_cast<const std::byte*>(piece.iov_base), piece.iov_len}, seed);
  }
  return seed;
}

/// The CRC of each unit that a piece touches: the stored one, or that of the part.
std::vector<uint32_t> crcs_of(const LayerSend::Item& item, const Piece& piece,
                              std::span<const iovec> from) {
  const ObjectHeader& header = item.reader.header();
  const uint64_t section_bytes = header.sections[piece.section].bytes;
  std::vector<uint32_t> crcs;
  uint64_t done = 0;
  for (uint32_t unit = first_unit(piece); done < piece.bytes; ++unit) {
    const uint64_t unit_begin = uint64_t{unit} * kCrcUnitBytes;
    const uint64_t unit_end = std::min<uint64_t>(unit_begin + kCrcUnitBytes, section_bytes);
    const uint64_t begin = std::max(unit_begin, piece.offset);
    const uint64_t end = std::min(unit_end, piece.offset + piece.bytes);
    if (begin == unit_begin && end == unit_end) {
      crcs.push_back(header.unit_crcs[item.reader.layout().first_unit(piece.section) + unit]);
    } else {
      const uint32_t seed =
          unit_crc_seed(item.key, piece.section, unit, static_cast<uint32_t>(begin - unit_begin));
      crcs.push_back(crc_of(trimmed(from, begin - piece.offset, end - begin), seed));
    }
    done += end - begin;
  }
  return crcs;
}

template <class Slots>
uint64_t bytes_of(const Slots& slots) {
  uint64_t bytes = 0;
  for (const auto* slot : slots) bytes += slot->piece.bytes;
  return bytes;
}

std::vector<DeliveryCursor::Item> shapes_of(
    const std::vector<std::unique_ptr<LayerSend::Item>>& items) {
  std::vector<DeliveryCursor::Item> shapes;
  for (const auto& item : items) {
    if (item->code != StatusCode::kOk) {
      shapes.push_back({});
      continue;
    }
    shapes.push_back({&item->reader.layout(),
                      static_cast<uint32_t>(item->reader.header().sections.size()), &item->map});
  }
  return shapes;
}
}  // namespace

LayerSend::LayerSend(NodeContext* context, const Session& session, Lane lane, uint64_t tag,
                     std::vector<std::unique_ptr<Item>>* items)
    : context_(context),
      peer_(session.peer()),
      tag_(tag),
      items_(items),
      cursor_(std::make_unique<DeliveryCursor>(shapes_of(*items))),
      window_(std::min(kFirstWindowBytes, context->config->fetch_window_bytes)),
      flow_(context->pacer, lane, session.tenant(), session.peer(), [this] { pump(); }),
      retry_([this] { pump(); }) {}

LayerSend::~LayerSend() {
  TERRACE_CHECK(busy_ == 0);
  context_->loop->disarm(&retry_);
}

void LayerSend::start(Op* op) {
  op_ = op;
  pump();
}

void LayerSend::cancel() {
  if (cancelled_) return;
  cancelled_ = true;
  flow_.stop();
  for (const auto& slot : slots_) {
    if (!slot->frame.empty()) context_->transport->cancel(slot.get());
  }
  pump();
}

void LayerSend::pump() {
  while (!cancelled_ && !exhausted_ && window_open()) {
    if (!read_next(free_.back())) exhausted_ = true;
  }
  send_ready();
  finish_when_idle();
}

/// Whether another slot may read; then one is free.
bool LayerSend::window_open() {
  if (window_used_ >= window_) return false;
  if (free_.empty() && slots_.size() < kSlotsMax) {
    slots_.push_back(std::make_unique<Slot>(this));
    free_.push_back(slots_.back().get());
  }
  return !free_.empty();
}

/// False when there is nothing left to read.
bool LayerSend::read_next(Slot* slot) {
  while (cursor_->next(&slot->piece)) {
    Item& item = *(*items_)[slot->piece.item];
    const Piece& piece = slot->piece;
    const Status started =
        context_->store->read(&item.reader, piece.section, first_unit(piece),
                              units_touched(piece.offset, piece.bytes), &slot->buffer, slot);
    if (!started.ok()) {
      fail_item(piece.item, started.code());
      continue;
    }
    free_.pop_back();
    slot->state = Slot::State::reading;
    window_used_ += piece.bytes;
    in_order_.push_back(slot);
    ++busy_;
    return true;
  }
  return false;
}

void LayerSend::slot_done(Slot* slot, Status result) {
  --busy_;
  if (slot->state == Slot::State::reading) {
    if (!result.ok()) fail_item(slot->piece.item, result.code());
    slot->state = Slot::State::ready;
    window_ = std::min(window_ + slot->piece.bytes, context_->config->fetch_window_bytes);
    if (slot->piece.bytes < kCombinedBytesMax) {
      // What else completes on this turn may leave in the same frame.
      if (!retry_.armed()) context_->loop->arm(&retry_, context_->loop->now());
      return;
    }
  } else {
    TERRACE_CHECK(slot->state == Slot::State::writing);
    // A frame that was recalled before its first byte left, which the client must not wait for.
    const bool recalled = result.code() == StatusCode::kCancelled;
    if (recalled) --frames_;
    for (Slot* sent : std::exchange(slot->frame, {})) {
      if (!result.ok() && !recalled) fail_item(sent->piece.item, result.code());
      if (recalled) tier_bytes_[static_cast<size_t>(sent->buffer.tier())] -= sent->piece.bytes;
      flow_.give_back(sent->piece.bytes);
      free_slot(sent);
    }
  }
  pump();
}

void LayerSend::send_ready() {
  while (!in_order_.empty() && in_order_.front()->state == Slot::State::ready) {
    Slot* const first = in_order_.front();
    std::vector<Slot*> frame = next_frame();
    if (!frame.empty()) {
      const size_t slots = frame.size();
      const uint64_t bytes = bytes_of(frame);
      if (!flow_.take(bytes)) return;  // others first: pump() when it is our turn
      const Status sent = send(std::move(frame));
      if (sent.ok()) {
        in_order_.erase(in_order_.begin(), in_order_.begin() + static_cast<ptrdiff_t>(slots));
        continue;
      }
      flow_.refund(bytes);
      if (sent.code() == StatusCode::kResourceExhausted) {  // the client is slower than we are
        context_->loop->arm(&retry_, context_->loop->now() + kRetryPeriod);
        return;
      }
      fail_item(first->piece.item, sent.code());
    }
    in_order_.pop_front();
    free_slot(first);
  }
}

/// The next slot and, as long as they are small, those behind it: a frame of its own costs a small
/// one more than its bytes do. Empty when the next one is not wanted any more.
std::vector<LayerSend::Slot*> LayerSend::next_frame() const {
  std::vector<Slot*> frame;
  uint64_t bytes = 0;
  size_t targets = 0;
  size_t pieces = 0;
  for (Slot* slot : in_order_) {
    const bool wanted = !cancelled_ && (*items_)[slot->piece.item]->code == StatusCode::kOk;
    if (slot->state != Slot::State::ready || !wanted) break;
    bytes += slot->piece.bytes;
    targets += slot->piece.targets.size();
    pieces += slot->buffer.pieces().size();
    const bool fits = bytes <= kCombinedBytesMax && frame.size() < kDeliveriesPerFrameMax &&
                      std::max(targets, pieces) <= kFramesFragmentsMax;
    if (!frame.empty() && !fits) break;
    frame.push_back(slot);
  }
  return frame;
}

Status LayerSend::send(std::vector<Slot*> frame) {
  std::vector<Delivery> deliveries;
  std::vector<RemoteSpan> targets;
  std::vector<iovec> from;
  for (const Slot* slot : frame) {
    const Piece& piece = slot->piece;
    const uint64_t skip = piece.offset - uint64_t{first_unit(piece)} * kCrcUnitBytes;
    const std::vector<iovec> bytes = trimmed(slot->buffer.pieces(), skip, piece.bytes);
    deliveries.push_back({piece.item, piece.section, piece.offset, piece.object_offset, piece.bytes,
                          slot->buffer.tier(), crcs_of(*(*items_)[piece.item], piece, bytes)});
    targets.insert(targets.end(), piece.targets.begin(), piece.targets.end());
    from.insert(from.end(), bytes.begin(), bytes.end());
  }
  const std::string body = pack_deliveries(deliveries);
  Transport::Write write;
  write.tag = tag_;
  write.body = std::as_bytes(std::span(body.data(), body.size()));
  write.targets = targets;
  write.from = from;
  TERRACE_RETURN_IF_ERROR(context_->transport->write(peer_, write, frame.front()));
  for (Slot* slot : frame) {
    slot->state = Slot::State::writing;
    tier_bytes_[static_cast<size_t>(slot->buffer.tier())] += slot->piece.bytes;
  }
  ++busy_;
  ++frames_;
  Slot* const first = frame.front();
  first->frame = std::move(frame);
  return ok_status();
}

void LayerSend::free_slot(Slot* slot) {
  slot->buffer.release();
  window_used_ -= slot->piece.bytes;
  slot->state = Slot::State::free;
  free_.push_back(slot);
}

void LayerSend::fail_item(uint32_t item, StatusCode code) {
  cursor_->drop(item);
  StatusCode& now = (*items_)[item]->code;
  if (now == StatusCode::kOk) now = code;
}

void LayerSend::finish_when_idle() {
  if (busy_ > 0 || op_ == nullptr || !(cancelled_ || exhausted_)) return;
  if (!in_order_.empty()) return;  // ready, waiting for room: pump() comes again
  context_->loop->disarm(&retry_);
  context_->loop->defer(std::exchange(op_, nullptr), ok_status());
}
}  // namespace terrace
