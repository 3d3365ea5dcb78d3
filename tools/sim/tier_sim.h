// tools/sim/tier_sim.h - what a policy is worth on a trace, without moving a byte: the node's own
// policies over two tiers of blocks, request by request. Deterministic, single-threaded.
//
// A request looks its blocks up first; a block counts as a prefix hit when it and all before it in
// the request are there. Then its blocks are used tail first, and those that were not there are
// stored; meanwhile none of them is evicted. A request longer than the faster tier stores what
// fits. A block that leaves dram is in nvme already (write-through) or goes there when it is worth
// the price of nvme, the value of what would have to leave. What leaves nvme leaves the store.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "storage/policy/policy_kind.h"
#include "tools/sim/saving_model.h"
#include "tools/trace/trace.h"

namespace terrace {

struct TierSimOptions {
  uint64_t dram_blocks = 0;
  uint64_t nvme_blocks = 0;  // 0: no nvme tier
  uint32_t block_tokens = 512;
  uint32_t promote_hits = 1;  // hits in nvme until a block comes into dram
  SavingModel saving;
};

struct TierSimCounts {
  uint64_t requests = 0;
  uint64_t references = 0;  // blocks that requests named
  uint64_t unique = 0;
  uint64_t block_hits = 0;
  std::array<uint64_t, kTierCount> prefix_hits{};
  std::array<uint64_t, kTierCount> writes{};  // blocks that came into a tier
  uint64_t promotions = 0;
  double recompute_s = 0;  // that all of the trace would take
  double saved_s = 0;      // recomputing of prefix hits, less their loading
  uint64_t policy_bytes = 0;

  uint64_t hits() const;
  /// In percent of the references.
  double prefix_percent(Tier tier) const;
};

class TierSim {
 public:
  TierSim(PolicyKind policy, const TierSimOptions& options);
  ~TierSim();
  /// In order of time.
  void run(std::span<const TraceRequest> requests);
  const TierSimCounts& counts() const;

 private:
  class Core;
  std::unique_ptr<Core> core_;
};

/// Different blocks of a trace.
uint64_t unique_blocks(std::span<const TraceRequest> requests);
}  // namespace terrace
