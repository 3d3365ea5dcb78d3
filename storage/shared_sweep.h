// storage/shared_sweep.h - one pass over the shared tier by its elected sweeper: measures it,
// brings it below its capacity, and removes what nobody needs any more. The blocking half, in steps
// that are short; one thread at a time.
//
// What is judged is an exact generation, older than the grace and not used since. It goes to the
// trash by a rename, and is unlinked when it has lain there for the grace. Two sweepers at once, or
// one that lost its lease, do no harm: the second finds nothing to rename.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <queue>
#include <string>
#include <vector>

#include "storage/shared_lease.h"
#include "storage/shared_medium.h"
#include "storage/shared_names.h"

namespace terrace {

inline constexpr const char* kSweeperLease = "sweeper";

struct SweepOptions {
  uint64_t bytes_max = 0;
  Nanos grace = seconds(3600);
  Nanos lease = seconds(180);
  Nanos quarantine_kept = seconds(7 * 24 * 3600);
  Nanos step = seconds(1);  // after which a step begins nothing more
};

/// What a pass found and did so far.
struct SweepResult {
  uint64_t bytes = 0;  // of objects, before it removed any
  uint64_t objects = 0;
  uint64_t swept_objects = 0;
  uint64_t swept_bytes = 0;
  uint64_t trash_emptied = 0;
  uint64_t leftovers_removed = 0;  // temporaries, leases, old quarantine
};

class SharedSweep {
 public:
  /// `lease` is held. `clock` outlives this.
  SharedSweep(std::shared_ptr<SharedMedium> medium, const SweepOptions& options, SharedLease lease,
              const Clock* clock);
  /// A bounded part of the pass. kAborted: the lease is lost, nothing more was removed. Else the
  /// medium's errors.
  Status step();
  bool over() const { return phase_ == Phase::over; }
  const SweepResult& result() const { return result_; }

 private:
  static constexpr size_t kListMax = 65536;
  static constexpr size_t kLooksPerStep = 512;
  static constexpr size_t kMovesPerStep = 64;
  static constexpr size_t kCandidatesMax = 65536;   // the oldest; more come in the next pass
  static constexpr uint64_t kTargetPermille = 950;  // of the capacity, when it is exceeded
  enum class Phase : uint8_t { namespaces, folders, look, judge, remove, clean, leases, over };
  struct Candidate {
    Nanos age{0};
    uint64_t bytes = 0;
    SharedName name;
    bool operator>(const Candidate& other) const { return age > other.age; }
  };
  Status keep_lease();
  /// Whether the step that runs may begin another call: one step is one call of the tier's, with
  /// its deadline, however slow the file system.
  bool has_time() const { return clock_->now() < step_until_; }
  Status list_namespaces();
  Status list_folders();
  Status look();
  void judge();
  Status remove_some();
  Status clean_one();
  Status forget_some_leases();

  const std::shared_ptr<SharedMedium> medium_;
  const SweepOptions options_;
  const SharedLease lease_;
  const Clock* const clock_;
  Nanos lease_until_{0};
  Nanos step_until_{0};
  Phase phase_ = Phase::namespaces;
  SweepResult result_;
  std::vector<NamespaceDigest> namespaces_;  // still to come, the last one now
  std::vector<uint32_t> folders_;            // of it, the same
  struct Leaf {
    SharedLeaf leaf;
    std::optional<SharedMedium::Facts> facts;  // when the listing said them
  };
  std::vector<Leaf> leaves_;  // of the last folder, the same
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> oldest_;  // youngest first
  std::vector<Candidate> victims_;  // the oldest last
  size_t cleaning_ = 0;
  std::vector<SharedMedium::Listed> leftovers_;
  bool listed_ = false;  // leftovers_ are of the folder that is cleaned now
  bool leases_listed_ = false;
};
}  // namespace terrace
