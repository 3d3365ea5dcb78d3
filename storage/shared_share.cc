// Publishing what this store has already: the object's bytes from its fastest tier.
#include <string>
#include <utility>

#include "base/check.h"
#include "storage/core.h"
#include "storage/object_io.h"
#include "storage/shared_tier.h"

namespace terrace {

struct SharedTier::Sharing {
  uint32_t id = 0;
  Tier from = Tier::dram;
  SharedLane lane = SharedLane::foreground;
  SharedSource source;
  std::shared_ptr<SectorMemory> memory;  // of an object that is only on nvme
  Then then;
};

void SharedTier::share(uint32_t id, SharedLane lane, Then then) {
  const auto sharing = std::make_shared<Sharing>();
  sharing->id = id;
  sharing->lane = lane;
  sharing->then = std::move(then);
  core_.pin(id);
  sharing->source.holds.push_back(
      std::shared_ptr<void>(nullptr, [core = &core_, id](void*) { core->unpin(id); }));
  const IndexEntry& entry = core_.index[id];
  sharing->source.ns = entry.ns;
  sharing->source.header.key = entry.key;
  if (fresh(entry.ns, entry.key) && lasts(fresh_.at({entry.ns, entry.key}), id)) {
    return look_again(sharing);
  }
  find_source(sharing);
}

/// As long as the object here.
bool SharedTier::lasts(const Fresh& copy, uint32_t id) const {
  const Kept* const kept = core_.retainer.find(id);
  const uint32_t here = kept == nullptr ? 0 : kept->expires_s;
  return copy.expires_s == 0 || (here != 0 && here <= copy.expires_s);
}

/// This node published it short ago, but another one may have erased it or set it aside.
void SharedTier::look_again(const std::shared_ptr<Sharing>& sharing) {
  const ObjectName name{sharing->source.ns, sharing->source.header.key};
  const SharedGeneration generation = fresh_.at(name).generation;
  SharedCall call;
  call.lane = sharing->lane;
  call.work = [medium = medium_,
               copy = SharedName{*set_.digest_of(name.ns), name.key, generation}] {
    return medium->facts(shared_path(copy)).status();
  };
  call.then = [this, sharing, name, generation](const Status& result) {
    const auto it = fresh_.find(name);
    const bool same = it != fresh_.end() && it->second.generation == generation;
    if (same && result.ok()) return shared_over(sharing, result);
    if (same && result.code() == StatusCode::kNotFound) {
      fresh_.erase(it);
      set_.remove(name.ns, name.key, generation);
    }
    find_source(sharing);
  };
  if (const Status started = calls_.start(std::move(call)); !started.ok()) {
    over_later(sharing, started);
  }
}

void SharedTier::find_source(const std::shared_ptr<Sharing>& sharing) {
  const IndexEntry& entry = core_.index[sharing->id];
  // It joins that publish: no need for its bytes.
  if (publishing(entry.ns, entry.key)) return publish_source(sharing);
  const std::shared_ptr<ArenaSpace>& space = core_.dram_of(sharing->id);
  if (space == nullptr) return read_source(sharing);
  StatusOr<ObjectHeader> header = read_arena_header(*space, entry);
  if (!header.ok()) return over_later(sharing, header.status());
  const uint64_t header_bytes = uint64_t{entry.header_blocks} * kSectorBytes;
  space->memory(header_bytes, space->bytes() - header_bytes, &sharing->source.data);
  sharing->source.header = std::move(*header);
  sharing->source.holds.push_back(space);
  publish_source(sharing);
}

void SharedTier::read_source(const std::shared_ptr<Sharing>& sharing) {
  const IndexEntry& entry = core_.index[sharing->id];
  if (!entry.has(IndexEntry::on_nvme) || !core_.nvme_works()) {
    return over_later(sharing, error(StatusCode::kUnavailable, "nothing to publish it from"));
  }
  const uint64_t stored = entry.stored_bytes();
  uint64_t& running = source_bytes_[static_cast<size_t>(sharing->lane)];
  if (running > 0 && running + stored > kSourceBytesMax) {
    return over_later(sharing, error(StatusCode::kResourceExhausted,
                                     "put: " + std::to_string(running) +
                                         " bytes from nvme are being published, the limit is " +
                                         std::to_string(kSourceBytesMax) + ": try again"));
  }
  running += stored;
  sharing->from = Tier::nvme;
  sharing->memory = std::make_shared<SectorMemory>(stored);
  // Counted as long as the memory may be in use, also by a thread that hangs.
  sharing->source.holds.push_back(std::shared_ptr<void>(
      nullptr, [&running, memory = sharing->memory, stored](void*) { running -= stored; }));
  TransferSpec transfer;
  transfer.kind = IoKind::read;
  transfer.priority =
      sharing->lane == SharedLane::foreground ? IoPriority::foreground : IoPriority::background;
  const std::span<std::byte> bytes = sharing->memory->span();
  const iovec whole{bytes.data(), bytes.size()};
  add_pieces(core_.index.extents(sharing->id), 0, {&whole, 1}, &transfer.pieces);
  transfer.holds = {sharing->memory};
  transfer.done = [this, sharing](const Status& result) {
    if (!result.ok()) return shared_over(sharing, result);
    const IndexEntry& read = core_.index[sharing->id];
    const uint64_t header_bytes = uint64_t{read.header_blocks} * kSectorBytes;
    const std::span<std::byte> all = sharing->memory->span();
    StatusOr<ObjectHeader> header = decode_nvme_header(all.first(header_bytes), read);
    if (!header.ok()) return shared_over(sharing, header.status());
    sharing->source.header = std::move(*header);
    const std::span<std::byte> data = all.subspan(header_bytes);
    sharing->source.data.push_back({data.data(), data.size()});
    publish_source(sharing);
  };
  core_.nvme->transfer(std::move(transfer));
}

void SharedTier::publish_source(const std::shared_ptr<Sharing>& sharing) {
  sharing->memory.reset();  // the source owns it, and goes at once when another one is published
  if (core_.index[sharing->id].has(IndexEntry::doomed)) {
    return over_later(sharing,
                      error(StatusCode::kAborted, "put: the copy that was there is gone: again"));
  }
  const Status started =
      publish(std::move(sharing->source), sharing->lane,
              [this, sharing](const Status& result) { shared_over(sharing, result); });
  if (!started.ok()) over_later(sharing, started);
}

void SharedTier::over_later(const std::shared_ptr<Sharing>& sharing, const Status& result) {
  core_.later([this, sharing, result] { shared_over(sharing, result); });
}

void SharedTier::shared_over(const std::shared_ptr<Sharing>& sharing, const Status& result) {
  // Only what this store read can be rotten here: the medium reports its own trouble otherwise.
  if (result.code() == StatusCode::kDataLoss) core_.quarantine(sharing->id, sharing->from);
  sharing->source.holds.clear();
  const Then then = std::exchange(sharing->then, nullptr);
  then(result);
}
}  // namespace terrace
