// storage/explanation.h - what a store can say of one key to people: where it is and why, or when
// it went. Values.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "storage/chunk_store.h"
#include "storage/departures.h"
#include "storage/policy/placement_policy.h"
#include "storage/retention_record.h"

namespace terrace {

struct Explanation {
  static constexpr size_t kDeparturesMax = 16;
  struct Copy {
    Tier tier = Tier::dram;
    uint64_t bytes = 0;        // that it takes there
    std::optional<Nanos> age;  // since it came there, when that is known
    double price = 0;          // of a place there now; 0: there is room
    bool needed = false;       // an object in this or a faster tier follows it
    uint32_t load_us = 0;      // expected, to the first byte
  };
  bool here = false;  // on this node, or in a shared tier as far as this node knows
  ObjectInfo info;    // the rest holds when a local tier has it
  std::vector<Copy> copies;
  double value = 0;  // policy/placement_policy.h
  PolicyFacts policy;
  std::array<std::optional<double>, kTierCount> prices;  // of each tier there is
  double recompute_s = 0;  // weighted; what the policy counts for the whole object
  Nanos since_use{0};
  uint32_t uses_now = 0;  // operations, leases and views that hold its bytes
  std::optional<ChunkKey> parent;
  std::optional<Kept> kept;   // what was said of its retention
  WorthHint worth;            // as it was said when the object came
  uint64_t pinned_bytes = 0;  // of its namespace
  std::vector<Departure>
      departures;  // of this key, the newest first; `at` and `last_miss` are ages
};
}  // namespace terrace
