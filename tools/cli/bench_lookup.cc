// `terrace bench lookup`: batches of keys against a full index, as fast as they are answered and
// then paced, while a fetch saturates the link; beside messages of the same size over a socket.
#include <poll.h>

#include <algorithm>
#include <array>
#include <memory>

#include "base/limits.h"
#include "base/prng.h"
#include "tools/cli/bench.h"
#include "tools/cli/bench_chunks.h"
#include "tools/cli/bench_process.h"
#include "tools/cli/bench_small_objects.h"
#include "tools/cli/bench_socket.h"

namespace terrace {
namespace {
constexpr double kKeysPerSecondMin = 300'000;
constexpr double kPacedP99UsMax = 2'000;
constexpr uint32_t kFetchDepth = 2;
constexpr uint64_t kFrameBytes = 32;  // header
constexpr uint64_t kRequestKeyBytes = 32;
constexpr uint64_t kReplyKeyBytes = 24;
constexpr uint64_t kSpread = 10'007;  // keys between two batches: no batch finds the last one warm
constexpr Nanos kPatience = seconds(10);

class LookupBench {
 public:
  LookupBench(const LookupBenchOptions& options, const Globals& globals)
      : options_(options), globals_(globals) {}
  StatusOr<BenchReport> run();

 private:
  Status set_up();
  Status round(uint32_t number);
  StatusOr<OpId> look_up(Client* client, NamespaceId ns, uint64_t n);
  Status check_found(const Completion& completion);
  Status closed_loop(Json* json);
  Status paced_beside_fetch(Json* json);
  Status take(uint64_t* paced, uint64_t* fetching, uint64_t* bytes);
  Figure figure_of_keys(double keys, double seconds, double cpu_seconds) const;
  void finish();

  const LookupBenchOptions options_;
  const Globals globals_;
  ChunkBenchOptions chunk_options_;
  ChunkRig rig_;  // holds the node, and the chunks of the fetch
  std::vector<ChunkKey> chunk_keys_;
  std::unique_ptr<SmallObjects> objects_;
  std::unique_ptr<BenchSession> fetcher_;  // and paced lookups beside it, as an engine's one client
  NamespaceId objects_ns_{};               // of the objects, as the fetcher's client sees it
  std::vector<Nanos> lateness_;            // of each paced lookup: submitted after it was due
  Latencies latencies_, paced_, raw_latencies_;
  std::vector<double> keys_per_s_, ceiling_keys_per_s_, fetch_gb_per_s_;
  std::vector<Figure> ours_, ceiling_;
  uint64_t fetched_bytes_ = 0;
  BenchReport report_;
};

Status LookupBench::set_up() {
  chunk_options_.connections = options_.connections;
  chunk_options_.rounds = options_.rounds;
  chunk_options_.seconds_per_round = options_.seconds_per_round;
  chunk_options_.directory = options_.directory;
  chunk_options_.working_set_mib = 256;
  BenchNodeOptions node;
  // An object, its header and the size class above it.
  const uint64_t small_bytes = options_.objects * 4 * SmallObjects::kBytes;
  node.dram_bytes = dram_for(small_bytes + chunk_options_.working_set_mib * kMiB);
  TERRACE_ASSIGN_OR_RETURN(rig_, make_chunk_rig(chunk_options_, globals_, node));
  TERRACE_ASSIGN_OR_RETURN(
      objects_, SmallObjects::open(rig_.node->globals(), options_.connections, kFetchDepth));
  TERRACE_RETURN_IF_ERROR(
      objects_->store(options_.objects, Durability::memory, !globals_.json).status());
  chunk_keys_ = bench_keys(rig_.run, 0, rig_.chunks);
  {
    TERRACE_ASSIGN_OR_RETURN(const auto loader,
                             open_session(rig_, chunk_options_, rig_.source.span(), true));
    LoopOptions loop;
    loop.operations_max = chunk_keys_.size();
    TERRACE_RETURN_IF_ERROR(loader
                                ->run(loop,
                                      [&](uint64_t n) {
                                        return loader->put(chunk_keys_[n], n, rig_.chunk_bytes,
                                                           Durability::memory);
                                      })
                                .status());
  }
  TERRACE_ASSIGN_OR_RETURN(fetcher_,
                           open_session(rig_, chunk_options_, rig_.destination.span(), true));
  TERRACE_ASSIGN_OR_RETURN(objects_ns_, SmallObjects::open_namespace(&fetcher_->client()));
  TERRACE_RETURN_IF_ERROR(fetch_and_compare(&rig_, fetcher_.get(), chunk_keys_).status());
  return objects_->session().expect_in(objects_->keys(), Tier::dram);
}

StatusOr<OpId> LookupBench::look_up(Client* client, NamespaceId ns, uint64_t n) {
  const std::span<const ChunkKey> keys = objects_->keys();
  const uint64_t first = n * kSpread % (keys.size() - options_.batch + 1);
  LookupOptions options;
  options.user_tag = n;
  return client->lookup(ns, keys.subspan(first, options_.batch), options);
}

Status LookupBench::check_found(const Completion& completion) {
  TERRACE_RETURN_IF_ERROR(completion.status);
  const auto found = std::count_if(completion.keys.begin(), completion.keys.end(),
                                   [](const KeyInfo& k) { return k.code == StatusCode::kOk; });
  if (static_cast<uint64_t>(found) == options_.batch) return ok_status();
  return error(StatusCode::kFailedPrecondition, "only " + std::to_string(found) + " of " +
                                                    std::to_string(options_.batch) +
                                                    " keys of a batch were found");
}

Figure LookupBench::figure_of_keys(double keys, double seconds, double cpu_seconds) const {
  const double gb = keys * static_cast<double>(kRequestKeyBytes + kReplyKeyBytes) / 1e9;
  return {.gb_per_s = ratio_of(gb, seconds), .cpu_s_per_gb = ratio_of(cpu_seconds, gb)};
}

Status LookupBench::closed_loop(Json* json) {
  Status found;
  LoopOptions loop;
  loop.depth = options_.depth;
  loop.duration = rig_.duration;
  loop.on_completion = [&](const Completion& c) { found.update(check_found(c)); };
  const Nanos cpu = rig_.node->cpu_time();
  TERRACE_ASSIGN_OR_RETURN(
      const LoopResult result, objects_->session().run(loop, [this](uint64_t n) {
        return look_up(&objects_->session().client(), objects_->session().ns(), n);
      }));
  TERRACE_RETURN_IF_ERROR(found);
  const double keys = static_cast<double>(result.operations * options_.batch);
  ours_.push_back(figure_of_keys(keys, result.seconds, seconds_of(rig_.node->cpu_time() - cpu)));
  keys_per_s_.push_back(ratio_of(keys, result.seconds));
  latencies_.merge(result.latencies);
  (*json)["keys_per_s"] = keys_per_s_.back();
  (*json)["p99_us"] = microseconds_of(result.latencies.percentile(990));
  return ok_status();
}

/// A fetch's completion has bytes, a lookup's has keys.
Status LookupBench::take(uint64_t* paced, uint64_t* fetching, uint64_t* bytes) {
  std::array<Completion, 64> completions;
  const size_t count = fetcher_->client().drain(completions);
  for (const Completion& completion : std::span(completions).first(count)) {
    TERRACE_RETURN_IF_ERROR(completion.status);
    if (completion.keys.empty()) {
      --*fetching;
      *bytes += completion.bytes;
      continue;
    }
    --*paced;
    TERRACE_RETURN_IF_ERROR(check_found(completion));
    paced_.record(lateness_[completion.user_tag] + completion.elapsed);
  }
  return ok_status();
}

/// An open loop: a lookup is due whether or not the one before it was answered, and its latency
/// counts from when it was due.
Status LookupBench::paced_beside_fetch(Json* json) {
  const SystemClock clock;
  const PromptThread generator;
  const Nanos interval = Nanos(seconds(1)) / options_.paced_per_second;
  const auto wanted = static_cast<uint64_t>(rig_.duration / interval);
  lateness_.assign(wanted, Nanos(0));
  uint64_t submitted = 0, paced = 0, fetching = 0, fetches = 0, bytes = 0;
  const Nanos begin = clock.now();
  while (submitted < wanted || paced > 0 || fetching > 0) {
    const Nanos now = clock.now();
    if (now - begin > rig_.duration + kPatience) {
      return error(StatusCode::kDeadlineExceeded, "paced lookups do not complete");
    }
    for (; submitted < wanted && begin + interval * submitted <= now; ++submitted, ++paced) {
      lateness_[submitted] = clock.now() - (begin + interval * submitted);
      TERRACE_RETURN_IF_ERROR(look_up(&fetcher_->client(), objects_ns_, submitted).status());
    }
    for (; fetching < kFetchDepth && submitted < wanted; ++fetching, ++fetches) {
      const uint64_t chunk = fetches % chunk_keys_.size();
      TERRACE_RETURN_IF_ERROR(
          fetcher_->fetch(chunk_keys_[chunk], chunk, rig_.chunk_bytes).status());
    }
    const Nanos next = begin + interval * submitted;
    const Nanos wait = submitted < wanted ? std::max(Nanos(0), next - clock.now()) : seconds(1);
    const timespec timeout{wait / seconds(1), (wait % seconds(1)).count()};
    pollfd news{fetcher_->client().event_fd(), POLLIN, 0};
    ::ppoll(&news, 1, &timeout, nullptr);
    TERRACE_RETURN_IF_ERROR(take(&paced, &fetching, &bytes));
  }
  const double gb = static_cast<double>(bytes) / 1e9;
  fetch_gb_per_s_.push_back(gb / seconds_of(clock.now() - begin));
  fetched_bytes_ += bytes;
  (*json)["fetch_beside_gb_per_s"] = fetch_gb_per_s_.back();
  return ok_status();
}

Status LookupBench::round(uint32_t number) {
  Json json = {{"round", number}};
  PingPongOptions raw;
  raw.request_bytes = kFrameBytes + options_.batch * kRequestKeyBytes;
  raw.reply_bytes = kFrameBytes + options_.batch * kReplyKeyBytes;
  raw.depth = options_.depth;
  raw.duration = rig_.duration;
  TERRACE_ASSIGN_OR_RETURN(const PingPong ceiling, ping_pong_over_sockets(raw));
  const double keys = static_cast<double>(ceiling.round_trips * options_.batch);
  ceiling_.push_back(figure_of_keys(keys, ceiling.seconds, ceiling.cpu_seconds));
  ceiling_keys_per_s_.push_back(ratio_of(keys, ceiling.seconds));
  raw_latencies_.merge(ceiling.latencies);
  json["ceiling_keys_per_s"] = ceiling_keys_per_s_.back();
  TERRACE_RETURN_IF_ERROR(closed_loop(&json));
  TERRACE_RETURN_IF_ERROR(paced_beside_fetch(&json));
  report_.rounds.push_back(json);
  return ok_status();
}

void LookupBench::finish() {
  report_.name = "lookup";
  report_.ours = median(ours_);
  report_.ceiling = median(ceiling_);
  report_.ceiling_name = "messages of the same size over a raw socket";
  report_.competitors.push_back({"raw socket messages", report_.ceiling});
  report_.latencies = latencies_;
  report_.bytes_verified = fetcher_->client().statistics().bytes_verified;
  report_.bytes_verified_by = "client (of the fetch beside it; every key was found)";
  report_.tier_bytes[static_cast<size_t>(Tier::dram)] = fetched_bytes_;
  const double p99 = microseconds_of(paced_.percentile(990));
  report_.extra["objects"] = options_.objects;
  report_.extra["batch"] = options_.batch;
  report_.extra["depth"] = options_.depth;
  report_.extra["loop_threads"] = 1;
  report_.extra["keys_per_s"] = median(keys_per_s_);
  report_.extra["ceiling_keys_per_s"] = median(ceiling_keys_per_s_);
  report_.extra["ceiling_p99_us"] = microseconds_of(raw_latencies_.percentile(990));
  report_.extra["paced_per_s"] = options_.paced_per_second;
  report_.extra["paced_p50_us"] = microseconds_of(paced_.percentile(500));
  report_.extra["paced_p99_us"] = p99;
  report_.extra["paced_p999_us"] = microseconds_of(paced_.percentile(999));
  report_.extra["fetch_beside_gb_per_s"] = median(fetch_gb_per_s_);
  report_.bars.push_back(
      {"keys/s of a loop thread", median(keys_per_s_), Bar::Sense::at_least, kKeysPerSecondMin});
  report_.bars.push_back(
      {"p99 us beside a saturating fetch", p99, Bar::Sense::at_most, kPacedP99UsMax});
}

StatusOr<BenchReport> LookupBench::run() {
  if (options_.batch == 0 || options_.batch > kKeysPerRequestMax ||
      options_.objects < options_.batch) {
    return error(StatusCode::kInvalidArgument,
                 "--batch: want 1 to 512, and at least as many --objects");
  }
  TERRACE_RETURN_IF_ERROR(set_up());
  Progress progress("bench lookup", options_.rounds, !globals_.json);
  for (uint32_t i = 0; i < options_.rounds; ++i) {
    progress.show(i, "round " + std::to_string(i + 1));
    TERRACE_RETURN_IF_ERROR(round(i + 1));
  }
  finish();
  TERRACE_RETURN_IF_ERROR(fetcher_->erase_all(chunk_keys_));
  TERRACE_RETURN_IF_ERROR(objects_->session().erase_all(objects_->keys()));
  return std::move(report_);
}
}  // namespace

StatusOr<BenchReport> bench_lookup(const LookupBenchOptions& options, const Globals& globals) {
  LookupBench bench(options, globals);
  return bench.run();
}
}  // namespace terrace
