#include "tools/cli/bench_session.h"

#include <poll.h>

#include <algorithm>

#include "base/prng.h"
#include "tools/cli/connection.h"
#include "tools/cli/output.h"

namespace terrace {
namespace {
constexpr size_t kDrainMax = 64;
constexpr milliseconds kStuck{30'000};  // no completion for so long: something is wrong
}  // namespace

void LoopResult::add(const LoopResult& other) {
  operations += other.operations;
  refused += other.refused;
  bytes += other.bytes;
  for (size_t i = 0; i < kTierCount; ++i) tier_bytes[i] += other.tier_bytes[i];
  seconds += other.seconds;
  latencies.merge(other.latencies);
}

StatusOr<std::unique_ptr<BenchSession>> BenchSession::open(const Globals& globals,
                                                           const SessionOptions& options) {
  TERRACE_ASSIGN_OR_RETURN(ClientConfig config, client_config(globals));
  config.data_connections = options.connections;
  config.verify = options.verify;
  TERRACE_ASSIGN_OR_RETURN(std::unique_ptr<Client> client, Client::open(config));
  std::unique_ptr<BenchSession> session(
      new BenchSession(std::move(client), milliseconds(globals.timeout_ms)));
  TERRACE_ASSIGN_OR_RETURN(session->ns_,
                           session->client_->open_namespace(options.ns, options.fingerprint));
  if (!options.memory.empty()) {
    TERRACE_ASSIGN_OR_RETURN(session->region_, session->client_->register_memory(options.memory));
  }
  return session;
}

StatusOr<LoopResult> BenchSession::run(const LoopOptions& options, const Submit& submit) {
  const SystemClock clock;
  LoopResult result;
  std::array<Completion, kDrainMax> completions;
  Status status;
  const Nanos begin = clock.now();
  Nanos last_progress = begin;
  uint64_t submitted = 0;
  uint64_t in_flight = 0;
  const auto more = [&] {
    return status.ok() && submitted < options.operations_max &&
           (options.duration.count() == 0 || clock.now() - begin < options.duration);
  };
  for (;;) {
    while (in_flight < options.depth && more()) {
      const StatusOr<OpId> op = submit(submitted);
      status.update(op.status());
      if (!op.ok()) break;
      ++submitted;
      ++in_flight;
    }
    if (in_flight == 0) break;
    pollfd poll{client_->event_fd(), POLLIN, 0};
    ::poll(&poll, 1, static_cast<int>(kStuck.count()));
    const size_t count = client_->drain(completions);
    for (const Completion& completion : std::span(completions).first(count)) {
      --in_flight;
      if (options.on_completion) options.on_completion(completion);
      ++result.operations;
      const bool refused = completion.status.code() == StatusCode::kResourceExhausted;
      if (refused && !options.refusals_fail) {
        ++result.refused;
        continue;
      }
      status.update(completion.status);
      result.bytes += completion.bytes;
      for (size_t t = 0; t < kTierCount; ++t) result.tier_bytes[t] += completion.tier_bytes[t];
      result.latencies.record(completion.elapsed);
    }
    if (count > 0) last_progress = clock.now();
    if (clock.now() - last_progress > kStuck) {
      return error(StatusCode::kDeadlineExceeded, "operations in flight do not complete");
    }
  }
  result.seconds = seconds_of(clock.now() - begin);
  if (!status.ok()) return status;
  return result;
}

StatusOr<OpId> BenchSession::fetch(const ChunkKey& key, uint64_t place, uint64_t bytes_each) {
  const Fragment whole{0, region_, place * bytes_each, bytes_each};
  return fetch(key, std::span(&whole, 1));
}

StatusOr<OpId> BenchSession::fetch(std::span<const ChunkKey> keys, uint64_t place,
                                   uint64_t bytes_each) {
  std::vector<Fragment> wholes;
  for (size_t i = 0; i < keys.size(); ++i) {
    wholes.push_back({0, region_, (place + i) * bytes_each, bytes_each});
  }
  std::vector<FetchItem> items;
  for (size_t i = 0; i < keys.size(); ++i) items.push_back({keys[i], {&wholes[i], 1}});
  FetchOptions options;
  options.deadline = timeout_;
  return client_->fetch(ns_, items, options);
}

StatusOr<OpId> BenchSession::fetch(const ChunkKey& key, std::span<const Fragment> places) {
  const FetchItem item{key, places};
  FetchOptions options;
  options.deadline = timeout_;
  return client_->fetch(ns_, std::span(&item, 1), options);
}

StatusOr<OpId> BenchSession::fetch(const ChunkKey& key, std::span<const PoolSegment> pool,
                                   std::span<const uint32_t> block_ids) {
  const FetchItem item{key, {}, block_ids};
  FetchOptions options;
  options.deadline = timeout_;
  options.pool = pool;
  return client_->fetch(ns_, std::span(&item, 1), options);
}

StatusOr<OpId> BenchSession::put(const ChunkKey& key, uint64_t place, uint64_t bytes_each,
                                 Durability durability) {
  const Fragment whole{0, region_, place * bytes_each, bytes_each};
  const PutItem item{key, {}, std::span(&whole, 1), {}};
  PutOptions options;
  options.deadline = timeout_;
  options.durability = durability;
  return client_->put(ns_, std::span(&item, 1), options);
}

Status BenchSession::erase_all(std::span<const ChunkKey> keys) {
  for (size_t at = 0; at < keys.size(); at += kKeysPerRequestMax) {
    const auto some = keys.subspan(at, std::min<size_t>(kKeysPerRequestMax, keys.size() - at));
    TERRACE_ASSIGN_OR_RETURN(const OpId op, client_->erase(ns_, some, {}));
    TERRACE_ASSIGN_OR_RETURN(const Completion completion, client_->wait(op, timeout_));
    if (completion.status.ok() || completion.status.code() == StatusCode::kNotFound) continue;
    return completion.status;
  }
  return ok_status();
}

Status BenchSession::expect_in(std::span<const ChunkKey> keys, Tier tier) {
  for (size_t at = 0; at < keys.size(); at += kKeysPerRequestMax) {
    const auto some = keys.subspan(at, std::min<size_t>(kKeysPerRequestMax, keys.size() - at));
    TERRACE_ASSIGN_OR_RETURN(const OpId op, client_->lookup(ns_, some, {}));
    TERRACE_ASSIGN_OR_RETURN(const Completion completion, client_->wait(op, timeout_));
    TERRACE_RETURN_IF_ERROR(completion.status);
    for (size_t i = 0; i < completion.keys.size(); ++i) {
      if ((completion.keys[i].tiers & mask_of(tier)) != 0) continue;
      return error(StatusCode::kFailedPrecondition,
                   "object " + std::to_string(at + i) + " lies in " +
                       tiers_text(completion.keys[i].tiers) + ", not in " + name_of(tier));
    }
  }
  return ok_status();
}

std::vector<ChunkKey> bench_keys(uint64_t run, uint64_t first, size_t count) {
  std::vector<ChunkKey> keys;
  keys.reserve(count);
  const std::string prefix = "terrace bench " + std::to_string(run) + " ";
  for (size_t i = 0; i < count; ++i) keys.push_back(sha256(prefix + std::to_string(first + i)));
  return keys;
}

uint64_t random_run() {
  uint64_t run = 0;
  secure_random(std::as_writable_bytes(std::span(&run, 1)));
  return run;
}

StatusOr<Fingerprint> chunk_fingerprint(uint64_t bytes, uint32_t layers) {
  // 8 kv heads of 128 in bf16: 2 KiB per token and plane.
  constexpr uint64_t kTokenBytes = 2048;
  const uint64_t per_token = uint64_t{layers} * 2 * kTokenBytes;
  if (layers == 0 || bytes == 0 || bytes % per_token != 0) {
    return error(StatusCode::kInvalidArgument,
                 "chunks of " + human_bytes(bytes) + " in " + std::to_string(layers) +
                     " layers: want a multiple of " + human_bytes(per_token));
  }
  Fingerprint fingerprint;
  fingerprint.model_id = "bench";
  LayerGeometry layer;
  layer.kv_heads = 8;
  layer.head_dim = 128;
  fingerprint.geometry.tokens_per_chunk = static_cast<uint32_t>(bytes / per_token);
  fingerprint.geometry.layers.assign(layers, layer);
  fingerprint.geometry.ropes.resize(1);
  TERRACE_RETURN_IF_ERROR(fingerprint.validate());
  return fingerprint;
}
}  // namespace terrace
