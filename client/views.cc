#include "client/views.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>

#include "base/crc32c.h"
#include "base/limits.h"

namespace terrace {

ViewId Views::add(Held held) {
  auto shared = std::make_shared<const Held>(std::move(held));
  const std::lock_guard lock(mutex_);
  see(*shared);
  const uint64_t id = next_++;
  held_[id] = std::move(shared);
  return ViewId{id};
}

void Views::see(const Held& held) {
  const auto holds_bytes = [&held](const ShmMapping& mapping) {
    const std::byte* const begin = mapping.memory().data();
    const std::byte* const end = begin + mapping.memory().size();
    for (const ViewedSection& section : held.sections) {
      for (const auto& piece : section.pieces) {
        if (piece.data() >= begin && piece.data() < end) return true;
      }
    }
    return false;
  };
  for (const std::shared_ptr<const ShmMapping>& mapping : held.mappings) {
    const bool known = std::any_of(seen_.begin(), seen_.end(), [&mapping](const Seen& seen) {
      return !seen.mapping.owner_before(mapping) && !mapping.owner_before(seen.mapping);
    });
    // The word's mapping is no memory of views, and changes under a reader.
    if (known || !holds_bytes(*mapping)) continue;
    seen_.push_back({next_memory_++, mapping});
    ++memory_version_;
  }
}

void Views::forget_gone() const {
  memory_version_ += std::erase_if(seen_, [](const Seen& seen) { return seen.mapping.expired(); });
}

std::vector<ViewMemory> Views::memory() const {
  const std::lock_guard lock(mutex_);
  forget_gone();
  std::vector<ViewMemory> out;
  for (const Seen& seen : seen_) {
    const std::shared_ptr<const ShmMapping> mapping = seen.mapping.lock();
    if (mapping != nullptr) out.push_back({seen.id, mapping->memory(), mapping->hold()});
  }
  return out;
}

uint64_t Views::memory_version() const {
  const std::lock_guard lock(mutex_);
  forget_gone();
  return memory_version_;
}

std::shared_ptr<const Views::Held> Views::find(ViewId view) const {
  const std::lock_guard lock(mutex_);
  const auto found = held_.find(static_cast<uint64_t>(view));
  return found == held_.end() ? nullptr : found->second;
}

bool Views::valid(const Held& held) {
  // Reads of the view's bytes stay before the read of the word: the node advances the word first
  // and gives the bytes away later.
  std::atomic_thread_fence(std::memory_order_acquire);
  if (held.session_gone->load(std::memory_order_acquire)) return false;
  return __atomic_load_n(reinterpret_cast<const uint64_t*>(held.word), __ATOMIC_ACQUIRE) ==
         held.generation;
}

bool Views::valid(ViewId view) const {
  const std::shared_ptr<const Held> held = find(view);
  return held != nullptr && valid(*held);
}

Status Views::check_units(const Held& held) {
  std::vector<std::byte> from_device(held.device == nullptr ? 0 : kCrcUnitBytes);
  size_t next = 0;
  for (uint32_t s = 0; s < held.sections.size(); ++s) {
    uint64_t at = 0;  // in the section
    uint32_t crc = 0;
    for (std::span<const std::byte> piece : held.sections[s].pieces) {
      while (!piece.empty()) {
        const auto unit = static_cast<uint32_t>(at / kCrcUnitBytes);
        if (at % kCrcUnitBytes == 0) crc = unit_crc_seed(held.key, s, unit);
        auto part = piece.first(std::min<size_t>(piece.size(), kCrcUnitBytes - at % kCrcUnitBytes));
        piece = piece.subspan(part.size());
        if (held.device != nullptr) {
          const auto copy = std::span(from_device).first(part.size());
          TERRACE_RETURN_IF_ERROR(held.device->read(part.data(), copy));
          part = copy;
        }
        crc = crc32c(part, crc);
        at += part.size();
        const bool unit_ends = at % kCrcUnitBytes == 0 || at == held.sections[s].spec.bytes;
        if (unit_ends && crc != held.crcs[next++]) {
          return error(StatusCode::kDataLoss, "view of " + held.key.hex() + ": section " +
                                                  std::to_string(s) + " unit " +
                                                  std::to_string(unit) + ": checksum differs");
        }
      }
    }
  }
  return ok_status();
}

Status Views::verify(ViewId view) const {
  const std::shared_ptr<const Held> held = find(view);
  if (held == nullptr) return error(StatusCode::kNotFound, "no such view, or it was released");
  const Status result = check_units(*held);
  if (valid(*held)) return result;
  return error(StatusCode::kAborted, "the view was revoked: what was read of it means nothing");
}

void Views::session_gone(PeerId peer) {
  const std::lock_guard lock(mutex_);
  for (const auto& [id, held] : held_) {
    if (held->peer == peer) held->session_gone->store(true, std::memory_order_release);
  }
}

std::shared_ptr<const Views::Held> Views::release(ViewId view) {
  const std::lock_guard lock(mutex_);
  const auto found = held_.find(static_cast<uint64_t>(view));
  if (found == held_.end()) return nullptr;
  std::shared_ptr<const Held> held = std::move(found->second);
  held_.erase(found);
  return held;
}
}  // namespace terrace
