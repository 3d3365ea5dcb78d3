// storage/shared_verify.h - one pass over the shared tier that reads and checks every copy in it,
// whichever namespace and node it is of. The blocking half, in steps that are short; one thread at
// a time.
//
// It walks what lies there, not what this node knows. What is published behind it is not looked at,
// and what is swept, erased or replaced before its turn is no damage: a name says which generation
// it is, so the copy is just gone.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "storage/shared_medium.h"
#include "storage/shared_names.h"
#include "storage/shared_object.h"

namespace terrace {

struct SharedVerifyOptions {
  Nanos step = seconds(1);   // after which a step begins nothing more
  size_t names_max = 65536;  // of a folder: what more lies in it is not looked at, and that is said
};

class SharedVerify {
 public:
  /// What one step did.
  struct Step {
    uint64_t bytes = 0;                 // read
    uint64_t objects = 0;               // checked to the end, or found damaged
    uint64_t skipped = 0;               // not ours, of a later build, or not readable now
    std::optional<SharedName> damaged;  // at most one, with which the step ends
  };
  /// `clock` outlives this, or abandon() was called before it went.
  SharedVerify(std::shared_ptr<SharedMedium> medium, const SharedVerifyOptions& options,
               const Clock* clock);
  /// A bounded part of the pass: about so many bytes. Not OK: the pass cannot go on. The medium's
  /// errors; one copy that cannot be read ends nothing, several in a row do.
  Status step(uint64_t bytes_max);
  const Step& last() const { return step_; }
  bool over() const { return listed_ && namespaces_.empty(); }
  /// Why not everything was looked at, the first reason; OK: all was that lay there.
  const Status& incomplete() const { return incomplete_; }
  /// From any thread: the step that runs begins nothing more, and leaves nothing open.
  void abandon() { abandoned_ = true; }
  /// Nothing stays open. May block as every call of a medium.
  void close() { check_.reset(); }
  bool open() const { return check_.has_value(); }

 private:
  static constexpr int kUnreadableInARowMax = 8;
  Status advance(uint64_t bytes_max);
  Status list_namespaces();
  void look_at_medium();
  Status list_folders();
  Status list_copies();
  Status check_some(uint64_t bytes_max);
  StatusOr<std::vector<std::string>> list(const std::string& folder, size_t names_max);
  /// The pass goes on, unless it is the medium that fails.
  Status unreadable(const Status& why);
  void note(const Status& why);
  bool has_time() const { return !abandoned_ && clock_->now() < until_; }

  const std::shared_ptr<SharedMedium> medium_;
  const SharedVerifyOptions options_;
  const Clock* const clock_;
  std::atomic<bool> abandoned_{false};
  Nanos until_{0};
  Step step_;
  Status incomplete_;
  int unreadable_in_a_row_ = 0;
  bool read_last_ = false;                   // and not found that it is gone
  bool listed_ = false;                      // namespaces_ are known
  bool folders_listed_ = false;              // folders_ are of the last of them
  std::vector<NamespaceDigest> namespaces_;  // still to come, the last one now
  std::vector<uint32_t> folders_;            // of it, still to come
  std::vector<SharedLeaf> copies_;           // of a folder, still to come
  std::optional<SharedCheck> check_;         // of the one that is being read
};
}  // namespace terrace
