// tools/reference_engine/fake_client.h - a Client whose node is a map in this process, for tests of
// what uses the SDK: linked in place of the real one. It does everything when it is asked, except
// that a fetched layer appears only when somebody waits for it. Thread-confined.
#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "client/terrace.h"

namespace terrace {

/// What the node holds and how it fails; one for the process, reset by each test.
struct FakeStore {
  std::map<ChunkKey, std::string> objects;
  std::set<ChunkKey> damaged;    // found by match_prefix, kDataLoss on fetch
  uint32_t failing_layer = ~0u;  // wait_layer and the fetch end as kUnavailable there
  bool down = false;             // every submission completes as kUnavailable
  StatusCode put_code = StatusCode::kOk;
  uint32_t fetches = 0, puts = 0, leases_open = 0, regions_open = 0;
  uint32_t layers_readied = 0;
};
FakeStore& fake_store();
}  // namespace terrace
