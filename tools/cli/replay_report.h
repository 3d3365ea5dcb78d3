// tools/cli/replay_report.h - what a replay counted, and how it is said. Values.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <string>

#include "base/chunk_key.h"
#include "base/status.h"
#include "tools/cli/latencies.h"
#include "tools/cli/output.h"

namespace terrace {

struct ReplayCounts {
  uint64_t requests = 0;
  uint64_t blocks = 0;       // references
  uint64_t prefix_hits = 0;  // of those: there, and every earlier block of the request too
  std::array<uint64_t, kTierCount> hits_by_tier{};  // of the hits, by their fastest tier
  double saved_s = 0;  // by the hits, as `terrace sim` counts it (tools/sim/saving_model.h)
  std::array<uint64_t, kTierCount> tier_bytes{};     // delivered
  uint64_t bytes_checked = 0;                        // of those, compared with the content
  uint64_t wrong_bytes = 0;                          // the one thing that must never happen
  uint64_t blocks_stored = 0, blocks_duplicate = 0;  // puts
  uint64_t bytes_stored = 0;
  std::map<StatusCode, uint64_t> fetch_failures;  // blocks that were promised and did not come
  std::map<StatusCode, uint64_t> put_failures;    // blocks
  std::map<StatusCode, uint64_t> refusals;        // submitting calls
  std::string first_failure;                      // of an operation, in the words of its status
  Nanos elapsed{0};
  Nanos lateness_max{0};  // of a start behind its due time: the driver's own, in every latency
  Latencies match;        // from due (first window) or from the answer before it
  Latencies fetch;        // one operation
  Latencies put;          // one operation
  Latencies load;         // a request with hits: from due until its last byte was there

  /// Everything that came was right, and nothing failed that may not.
  bool held() const;
};

struct ReplayFacts {
  std::string trace;
  std::string geometry;
  uint64_t block_bytes = 0;
  double speed = 0;
};

Json to_json(const ReplayCounts& counts, const ReplayFacts& facts);
std::string to_text(const ReplayCounts& counts, const ReplayFacts& facts);
}  // namespace terrace
