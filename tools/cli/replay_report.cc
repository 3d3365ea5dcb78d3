#include "tools/cli/replay_report.h"

namespace terrace {
namespace {

double part(uint64_t some, uint64_t all) {
  return all == 0 ? 0 : static_cast<double>(some) / static_cast<double>(all);
}

double gb_per_s(uint64_t bytes, Nanos elapsed) {
  return elapsed.count() <= 0 ? 0 : static_cast<double>(bytes) / 1e9 / seconds_of(elapsed);
}

Json json_of(const Latencies& latencies) {
  return {{"count", latencies.count()},
          {"p50_us", microseconds_of(latencies.percentile(500))},
          {"p99_us", microseconds_of(latencies.percentile(990))},
          {"p999_us", microseconds_of(latencies.percentile(999))},
          {"max_us", microseconds_of(latencies.max())}};
}

Json json_of(const std::map<StatusCode, uint64_t>& codes) {
  Json out = Json::object();
  for (const auto& [code, count] : codes) out[name_of(code)] = count;
  return out;
}

std::string text_of(const std::map<StatusCode, uint64_t>& codes) {
  std::string out;
  for (const auto& [code, count] : codes) {
    out += (out.empty() ? "" : ", ") + human_count(count) + " " + name_of(code);
  }
  return out.empty() ? "none" : out;
}

std::string percent(double share) {
  return fixed(share * 100, 2) + " %";
}

void add_row(Table* table, const std::string& name, const Latencies& latencies) {
  table->add({name, human_count(latencies.count()), human_duration(latencies.percentile(500)),
              human_duration(latencies.percentile(990)), human_duration(latencies.percentile(999)),
              human_duration(latencies.max())});
}
}  // namespace

bool ReplayCounts::held() const {
  if (wrong_bytes > 0) return false;
  for (const auto* codes : {&fetch_failures, &put_failures}) {
    for (const StatusCode never : {StatusCode::kDataLoss, StatusCode::kInternal,
                                   StatusCode::kInvalidArgument, StatusCode::kUnavailable}) {
      if (codes->contains(never)) return false;
    }
  }
  return refusals.empty();
}

Json to_json(const ReplayCounts& counts, const ReplayFacts& facts) {
  Json tiers = Json::object();
  for (size_t t = 0; t < kTierCount; ++t) {
    if (counts.hits_by_tier[t] == 0 && counts.tier_bytes[t] == 0) continue;
    tiers[name_of(static_cast<Tier>(t))] = {
        {"prefix_hit", part(counts.hits_by_tier[t], counts.blocks)},
        {"bytes", counts.tier_bytes[t]},
        {"gb_per_s", gb_per_s(counts.tier_bytes[t], counts.elapsed)}};
  }
  return {{"trace", facts.trace},
          {"geometry", facts.geometry},
          {"block_bytes", facts.block_bytes},
          {"speed", facts.speed},
          {"requests", counts.requests},
          {"blocks", counts.blocks},
          {"prefix_hit", part(counts.prefix_hits, counts.blocks)},
          {"saved_s", counts.saved_s},
          {"tiers", tiers},
          {"bytes_checked", counts.bytes_checked},
          {"bytes_verified_by", "client (CRC32C of every unit), then compared with the content"},
          {"wrong_bytes", counts.wrong_bytes},
          {"blocks_stored", counts.blocks_stored},
          {"blocks_duplicate", counts.blocks_duplicate},
          {"bytes_stored", counts.bytes_stored},
          {"store_gb_per_s", gb_per_s(counts.bytes_stored, counts.elapsed)},
          {"fetch_failures", json_of(counts.fetch_failures)},
          {"put_failures", json_of(counts.put_failures)},
          {"refusals", json_of(counts.refusals)},
          {"first_failure", counts.first_failure},
          {"elapsed_s", seconds_of(counts.elapsed)},
          {"lateness_max_us", microseconds_of(counts.lateness_max)},
          {"match", json_of(counts.match)},
          {"fetch", json_of(counts.fetch)},
          {"put", json_of(counts.put)},
          {"load", json_of(counts.load)},
          {"held", counts.held()}};
}

std::string to_text(const ReplayCounts& counts, const ReplayFacts& facts) {
  std::string out = facts.trace + ": " + human_count(counts.requests) + " requests, " +
                    human_count(counts.blocks) + " blocks of " + human_bytes(facts.block_bytes) +
                    " (" + facts.geometry + ")";
  out += facts.speed > 0 ? ", " + fixed(facts.speed, 1) + " times as fast\n"
                         : ", one request after the other\n";
  out += "prefix hit  " + percent(part(counts.prefix_hits, counts.blocks)) + " of blocks, " +
         fixed(counts.saved_s, 1) + " s of recomputing saved (at 10,000 tokens/s)\n";
  for (size_t t = 0; t < kTierCount; ++t) {
    if (counts.hits_by_tier[t] == 0 && counts.tier_bytes[t] == 0) continue;
    out += "  " + std::string(name_of(static_cast<Tier>(t))) + "  " +
           percent(part(counts.hits_by_tier[t], counts.blocks)) + ", " +
           human_bytes(counts.tier_bytes[t]) + " at " +
           fixed(gb_per_s(counts.tier_bytes[t], counts.elapsed), 3) + " GB/s\n";
  }
  out += "checked     " + human_bytes(counts.bytes_checked) + " of content, " +
         human_count(counts.wrong_bytes) + " wrong bytes\n";
  out += "stored      " + human_count(counts.blocks_stored) + " blocks, " +
         human_bytes(counts.bytes_stored) + "; " + human_count(counts.blocks_duplicate) +
         " were there\n";
  out += "not fetched " + text_of(counts.fetch_failures) + "\n";
  out += "not stored  " + text_of(counts.put_failures) + "\n";
  if (!counts.refusals.empty()) out += "refused     " + text_of(counts.refusals) + "\n";
  if (!counts.first_failure.empty()) out += "the first   " + counts.first_failure + "\n";
  out += "took        " + human_duration(counts.elapsed) + ", at most " +
         human_duration(counts.lateness_max) + " behind the trace\n";
  Table table({"operation", "count", "p50", "p99", "p99.9", "max"});
  add_row(&table, "match", counts.match);
  add_row(&table, "fetch", counts.fetch);
  add_row(&table, "put", counts.put);
  add_row(&table, "load (due to last byte)", counts.load);
  return out + table.text();
}
}  // namespace terrace
