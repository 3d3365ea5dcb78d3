// client/join.h - one operation of the engine over several nodes: merges what its parts, one per
// node, report into one watermark and one completion in the caller's order. Pure: values in, values
// out; the parts themselves run in client/operations.h.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/split.h"
#include "client/terrace.h"

namespace terrace {

class Join {
 public:
  struct Parts {
    size_t items = 0;           // of the whole operation
    std::vector<Share> shares;  // one per part
    bool streams = false;       // a fetch: it has layers, and may lose keys before it ends
    /// Turns the merged answers into what the caller asked for; may be empty.
    std::function<void(Completion*)> conclude;
  };
  explicit Join(Parts parts);

  size_t parts() const { return parts_.shares.size(); }
  /// The part that item `item` lies in, and its index there.
  std::pair<uint32_t, uint32_t> place_of(uint32_t item) const { return places_.at(item); }

  /// Layers that are ready in one part. The whole operation's, when that moved them. A part that
  /// has ended holds nothing up.
  std::optional<uint32_t> layers(uint32_t part, uint32_t ready);
  /// A part has ended; `node` names it in the status.
  void ended(uint32_t part, const std::string& node, Completion completion);
  /// Of a fetch's part that ended last: the items without kOk, as the caller counts them.
  const std::vector<uint32_t>& lost() const { return lost_; }
  /// What moved the watermark when that part ended.
  std::optional<uint32_t> layers_now() { return advance(); }

  bool done() const { return running_ == 0; }
  /// What is wrong so far; not OK once a key is lost.
  const Status& status() const { return whole_.status; }
  /// Once done: all but the operation's name and its lease.
  Completion take();
  /// The leases that the parts came with.
  const std::vector<LeaseId>& leases() const { return leases_; }

 private:
  struct Part {
    uint32_t layers = 0;
    bool ended = false;
  };
  std::optional<uint32_t> advance();
  void merge_status(const Share& share, const std::string& node, const Status& status);

  const Parts parts_;
  std::vector<std::pair<uint32_t, uint32_t>> places_;  // by item: its part, its index there
  std::vector<Part> states_;
  size_t running_;
  uint32_t told_ = 0;
  std::vector<uint32_t> lost_;
  std::vector<LeaseId> leases_;
  Completion whole_;
};
}  // namespace terrace
