// tools/cli/replay_driver.h - puts the requests of a trace to a node when they are due, whether or
// not earlier ones were answered: an open loop, timed from the due time, so that a slow answer is
// in the figures of everything that waited behind it. Single-threaded but for the content worker.
//
// A request asks for its longest stored prefix, fetches it, compares every byte with what the
// block's id says it must be, stores the blocks that were missing, and touches them all.
#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/buffer.h"
#include "client/terrace.h"
#include "tools/cli/content_worker.h"
#include "tools/cli/replay_report.h"
#include "tools/sim/saving_model.h"
#include "tools/trace/trace.h"

namespace terrace {

struct ReplayOptions {
  double speed = 50;  // 0: one request after the other, as fast as it is answered
  uint32_t requests_in_flight = 64;
  uint64_t memory_bytes = uint64_t{256} << 20;  // blocks on their way
  Durability durability = Durability::memory;
  uint64_t seed = 1;              // of the contents; in the keys too
  uint32_t block_tokens = 512;    // of the trace
  milliseconds deadline{10'000};  // of each operation
};

class ReplayDriver {
 public:
  /// `client` outlives the driver; blocks have `block_bytes`. kInvalidArgument: memory for less
  /// than one block; errors of register_memory.
  static StatusOr<std::unique_ptr<ReplayDriver>> create(Client* client, NamespaceId ns,
                                                        uint64_t block_bytes,
                                                        const ReplayOptions& options);
  ~ReplayDriver();
  /// Runs them all, once; `progress` hears how many are done. What went wrong is in the counts.
  ReplayCounts run(std::span<const TraceRequest> requests,
                   const std::function<void(uint64_t)>& progress);

 private:
  struct Request {
    const TraceRequest* trace = nullptr;
    Nanos due{0};
    std::vector<ChunkKey> keys;
    std::vector<LeaseId> leases;  // by window of kKeysPerRequestMax keys
    uint32_t hits = 0;            // leading blocks that the node has
    uint32_t fetch_next = 0;      // of the hits
    std::vector<uint32_t> to_store;
    size_t store_next = 0;
    uint32_t fetching = 0;  // fetches without an answer
    uint32_t batches = 0;   // operations and their content work under way
    bool matched = false;
    bool loaded = false;
  };
  struct Place {
    double position = 0;
    double tokens = 0;
  };
  enum class Kind : uint8_t { match, fetch, put };
  struct Batch {
    Kind kind = Kind::match;
    Request* request = nullptr;
    std::vector<uint32_t> blocks;  // of the request
    std::vector<std::span<std::byte>> slots;
    Nanos since{0};
    uint32_t content_left = 0;  // blocks with the worker
  };
  ReplayDriver(Client* client, NamespaceId ns, uint64_t block_bytes, const ReplayOptions& options,
               BufferPool pool);

  void start_due(std::span<const TraceRequest> requests, std::span<const Nanos> due);
  void wait_for_news(std::span<const Nanos> due);
  void take_completions();
  void take_content();
  /// Gives free memory to those who want it, oldest first.
  void pump();
  void match(Request* request);
  void matched(uint64_t id, const Completion& done);
  void loaded(Request* request);
  void fetch(Request* request, uint32_t count);
  void fetched(uint64_t id, const Completion& done);
  void fill(Request* request, uint32_t count);
  void put(uint64_t id);
  void stored(uint64_t id, const Completion& done);
  void end_batch(uint64_t id);
  void end_request(Request* request);
  uint64_t add_batch(Kind kind, Request* request);
  uint64_t seed_of(const Request& request, uint32_t block) const;
  Place place_of(const Request& request, uint32_t block) const;

  Client* const client_;
  const NamespaceId ns_;
  const uint64_t block_bytes_;
  const ReplayOptions options_;
  const SystemClock clock_;
  BufferPool pool_;
  RegionId region_{};
  ContentWorker worker_;
  std::unordered_map<const Request*, std::unique_ptr<Request>> running_;
  std::deque<Request*> wanting_;  // memory, oldest first; each at most once
  std::unordered_map<uint64_t, Batch> batches_;
  uint64_t next_batch_ = 1;
  size_t next_request_ = 0;
  Nanos began_{0};
  ReplayCounts counts_;
};
}  // namespace terrace
