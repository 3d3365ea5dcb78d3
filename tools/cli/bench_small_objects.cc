#include "tools/cli/bench_small_objects.h"

#include <algorithm>

#include "base/prng.h"
#include "tools/cli/content.h"
#include "tools/cli/output.h"

namespace terrace {
namespace {
constexpr const char* kNamespace = "bench-small";
}

StatusOr<std::unique_ptr<SmallObjects>> SmallObjects::open(const Globals& globals,
                                                           uint32_t connections, uint32_t depth) {
  std::unique_ptr<SmallObjects> objects(new SmallObjects(connections, depth));
  TERRACE_ASSIGN_OR_RETURN(objects->memory_, AlignedBuffer::allocate(depth * kBatch * kBytes));
  TERRACE_RETURN_IF_ERROR(objects->reconnect(globals));
  return objects;
}

Fingerprint SmallObjects::fingerprint() {
  Fingerprint fingerprint;
  fingerprint.model_id = kNamespace;
  return fingerprint;
}

StatusOr<NamespaceId> SmallObjects::open_namespace(Client* client) {
  return client->open_namespace(kNamespace, fingerprint());
}

Status SmallObjects::reconnect(const Globals& globals) {
  session_.reset();
  SessionOptions options;
  options.ns = kNamespace;
  options.fingerprint = fingerprint();
  options.connections = connections_;
  options.memory = memory_.span();
  TERRACE_ASSIGN_OR_RETURN(session_, BenchSession::open(globals, options));
  return ok_status();
}

std::span<std::byte> SmallObjects::memory_of(uint32_t slot) {
  return memory_.span().subspan(slot * kBatch * kBytes, kBatch * kBytes);
}

StatusOr<OpId> SmallObjects::put_batch(uint64_t first, uint64_t count, uint32_t slot,
                                       Durability durability) {
  static const SectionSpec kWhole{SectionKind::raw, Codec::identity, 0, kBytes};
  const std::span<std::byte> memory = memory_of(slot);
  std::vector<std::string> names(count);
  std::vector<Fragment> fragments(count);
  std::vector<PutItem> items(count);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t object = first + i;
    fill_content(seed_of(object), 0, memory.subspan(i * kBytes, kBytes));
    names[i] = "bench/" + std::to_string(run_) + "/" + std::to_string(object);
    TERRACE_ASSIGN_OR_RETURN(const ChunkKey key,
                             session_->client().raw_key(session_->ns(), names[i]));
    keys_.push_back(key);
    fragments[i] = {0, session_->region(), (slot * kBatch + i) * kBytes, kBytes};
    items[i] = {key, std::span(&kWhole, 1), std::span(&fragments[i], 1), names[i]};
  }
  PutOptions options;
  options.durability = durability;
  options.user_tag = slot;
  return session_->client().put(session_->ns(), items, options);
}

StatusOr<LoopResult> SmallObjects::store(uint64_t count, Durability durability, bool visible) {
  Progress progress("store", count, visible);
  keys_.clear();
  keys_.reserve(count);
  std::vector<uint32_t> free_slots;
  for (uint32_t i = 0; i < depth_; ++i) free_slots.push_back(i);
  uint64_t stored = 0;
  LoopOptions loop;
  loop.depth = depth_;
  loop.operations_max = (count + kBatch - 1) / kBatch;
  loop.on_completion = [&](const Completion& completion) {
    free_slots.push_back(static_cast<uint32_t>(completion.user_tag));
    stored += completion.key_codes.size();
    progress.show(stored);
  };
  return session_->run(loop, [&](uint64_t n) {
    const uint32_t slot = free_slots.back();
    free_slots.pop_back();
    const uint64_t first = n * kBatch;
    return put_batch(first, std::min<uint64_t>(kBatch, count - first), slot, durability);
  });
}

StatusOr<LoopResult> SmallObjects::compare(uint64_t samples, uint64_t seed) {
  Prng prng(seed);
  std::vector<uint64_t> drawn(samples);
  for (uint64_t& object : drawn) object = prng.below(keys_.size());
  Status content;
  LoopOptions loop;
  loop.depth = 1;  // so that the one place in memory is whole when it is compared
  loop.operations_max = samples;
  uint64_t at = 0;
  loop.on_completion = [&](const Completion& completion) {
    const uint64_t object = drawn[at++];
    if (!completion.status.ok()) return;
    if (count_differences(seed_of(object), 0, memory_.span().first(kBytes)) == 0) return;
    content.update(error(StatusCode::kDataLoss,
                         "object " + std::to_string(object) + " is not what was stored"));
  };
  auto result =
      session_->run(loop, [&](uint64_t n) { return session_->fetch(keys_[drawn[n]], 0, kBytes); });
  if (!content.ok()) return content;
  return result;
}
}  // namespace terrace
