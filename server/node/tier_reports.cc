#include "server/node/tier_reports.h"

#include <string>

#include "proto/message_kind.h"
#include "storage/explanation.h"

namespace terrace {
namespace {

uint64_t ms_of(Nanos duration) {
  return static_cast<uint64_t>(std::chrono::duration_cast<milliseconds>(duration).count());
}

void add_copies(const Explanation& from, proto::ExplainReply* out) {
  for (const Explanation::Copy& each : from.copies) {
    proto::ExplainReply::Copy* const copy = out->add_copies();
    copy->set_tier(name_of(each.tier));
    copy->set_bytes(each.bytes);
    if (each.age) copy->set_age_ms(ms_of(*each.age));
    copy->set_price(each.price);
    copy->set_needed(each.needed);
    copy->set_load_us(each.load_us);
    copy->set_children(from.policy.children[static_cast<size_t>(each.tier)]);
  }
}

void add_departures(const Explanation& from, proto::ExplainReply* out) {
  for (const Departure& each : from.departures) {
    proto::ExplainReply::Departure* const gone = out->add_departures();
    gone->set_tier(name_of(each.tier));
    gone->set_reason(name_of(each.reason));
    gone->set_last(each.last);
    gone->set_age_ms(ms_of(each.at));
    gone->set_bytes(each.bytes);
    gone->set_value(static_cast<double>(each.value));
    gone->set_price(static_cast<double>(each.price));
    gone->set_misses(each.misses);
    if (each.misses > 0) gone->set_last_miss_age_ms(ms_of(each.last_miss));
  }
}

const char* health_of(const NodeContext& context, Tier tier) {
  const StoreMetrics& m = context.store->metrics();
  if (tier == Tier::shared && m.shared.fenced.get() != 0) return "does not answer: skipped";
  if (tier == Tier::hbm && !context.store->hbm_works()) return "fails or hangs: skipped";
  if (tier == Tier::nvme && !context.store->nvme_works()) return "device hangs";
  return "ok";
}

void fill_shared(const SharedMetrics& m, proto::TierStatusReply::Tier* out) {
  out->set_fenced(m.fenced.get() != 0);
  out->set_sweeper(m.sweeper.get() != 0);
  out->set_hanging_calls(m.hanging.get());
  for (size_t i = 0; i < kSharedFailures; ++i) {
    (*out->mutable_misses())[name_of(static_cast<SharedFailure>(i))] = m.misses[i].get();
  }
}

uint64_t failures_of(const StoreMetrics& m, Tier tier) {
  if (tier == Tier::hbm) return m.crc_failures_hbm.get() + m.hbm_errors.get();
  if (tier == Tier::dram) return m.crc_failures_dram.get();
  if (tier == Tier::nvme) return m.crc_failures_nvme.get() + m.device_errors.get();
  return m.shared.quarantined.get();
}
}  // namespace

proto::ExplainReply explain_reply(const NodeContext& context, NamespaceId ns, const ChunkKey& key) {
  const Explanation said = context.store->explain(ns, key);
  proto::ExplainReply out;
  out.set_here(said.here);
  out.set_logical_bytes(said.info.logical_bytes);
  out.set_sections(said.info.sections);
  out.set_generation(said.info.generation);
  out.set_durable(said.info.durability != Durability::memory);
  add_copies(said, &out);
  out.set_value(said.value);
  out.set_uses_per_s(said.policy.uses_per_s);
  out.set_uses(said.policy.uses);
  out.set_recompute_s(said.recompute_s);
  out.set_recompute_us(said.worth.recompute_us);
  out.set_importance(said.worth.importance);
  out.set_since_use_ms(ms_of(said.since_use));
  out.set_uses_now(said.uses_now);
  if (said.parent) out.set_parent(pack_keys({&*said.parent, 1}));
  const Kept kept = said.kept.value_or(Kept());
  out.set_priority(name_of(kept.priority));
  out.set_pinned(kept.pinned);
  out.set_expires_unix_s(kept.expires_s);
  out.set_type(kept.type);
  out.set_turn(kept.turn);
  out.set_session(kept.session);
  out.set_namespace_pinned_bytes(said.pinned_bytes);
  out.set_namespace_pinned_bytes_max(context.pinned_quota());
  add_departures(said, &out);
  out.set_policy(name_of(context.config->store.policy));
  for (size_t t = 0; t < kTierCount; ++t) {
    if (!said.prices[t]) continue;
    (*out.mutable_prices())[name_of(static_cast<Tier>(t))] = *said.prices[t];
  }
  return out;
}

proto::VerifyProgress verify_progress(const VerifyPass& pass) {
  proto::VerifyProgress out;
  out.set_expected(pass.expected);
  out.set_objects(pass.objects);
  out.set_bytes(pass.bytes);
  out.set_bad(pass.bad);
  out.set_skipped(pass.skipped);
  out.set_code(static_cast<int32_t>(pass.result.code()));
  out.set_message(pass.result.message());
  out.set_over(pass.over);
  return out;
}

proto::ResizeProgress resize_progress(const ResizePass& pass) {
  proto::ResizeProgress out;
  out.set_target(pass.target);
  out.set_bytes(pass.bytes);
  out.set_to_leave(pass.to_leave);
  out.set_code(static_cast<int32_t>(pass.result.code()));
  out.set_message(pass.result.message());
  out.set_over(pass.over);
  return out;
}

proto::TrimDevicesProgress trim_progress(const TrimPass& pass) {
  proto::TrimDevicesProgress out;
  for (const TrimPass::OfDevice& device : pass.devices) {
    proto::TrimDevicesProgress::Device* const to = out.add_devices();
    to->set_place(device.place);
    to->set_path(device.path);
    to->set_bytes(device.bytes);
    to->set_code(static_cast<int32_t>(device.result.code()));
    to->set_message(device.result.message());
  }
  out.set_over(pass.over);
  return out;
}

proto::TierStatusReply tier_status_reply(const NodeContext& context) {
  proto::TierStatusReply out;
  const StoreMetrics& m = context.store->metrics();
  for (Tier tier : {Tier::hbm, Tier::dram, Tier::nvme, Tier::shared}) {
    const ChunkStore::TierUse use = context.store->tier_use(tier);
    if (use.capacity == 0) continue;
    const auto t = static_cast<size_t>(tier);
    proto::TierStatusReply::Tier* const to = out.add_tiers();
    to->set_tier(name_of(tier));
    to->set_capacity_bytes(use.capacity);
    to->set_used_bytes(use.used);
    to->set_objects(use.objects);
    to->set_price(static_cast<double>(m.price_e18[t].get()) * 1e-18);
    to->set_reads(m.reads[t].get());
    to->set_read_bytes(m.read_bytes[t].get());
    to->set_writes(m.writes[t].get());
    to->set_write_bytes(m.write_bytes[t].get());
    to->set_evictions(tier == Tier::shared ? m.shared.swept_objects.get() : m.evictions[t].get());
    to->set_evicted_bytes(tier == Tier::shared ? m.shared.swept_bytes.get()
                                               : m.evicted_bytes[t].get());
    to->set_health(health_of(context, tier));
    to->set_failures(failures_of(m, tier));
    for (size_t why = 0; why < kDepartReasons; ++why) {
      const uint64_t count = m.departures[t][why].get();
      if (count > 0) (*to->mutable_departures())[name_of(static_cast<DepartReason>(why))] = count;
    }
    if (tier == Tier::shared) fill_shared(m.shared, to);
  }
  for (const DeviceStatus& device : context.store->devices()) {
    proto::TierStatusReply::Device* const to = out.add_devices();
    to->set_place(device.place);
    to->set_path(device.path);
    to->set_capacity_bytes(device.bytes);
    to->set_used_bytes(device.used);
    to->set_written_bytes(device.written_bytes);
    to->set_trimmed_bytes(device.trimmed_bytes);
    to->set_health(name_of(device.health));
  }
  out.set_keys_looked_up(context.counters->keys_looked_up.get());
  out.set_keys_found(context.counters->keys_found.get());
  for (size_t why = 0; why <= kDepartReasons; ++why) {
    const char* const name =
        why == kMissUnknown ? "unknown" : name_of(static_cast<DepartReason>(why));
    (*out.mutable_misses())[name] = m.misses[why].get();
  }
  return out;
}
}  // namespace terrace
