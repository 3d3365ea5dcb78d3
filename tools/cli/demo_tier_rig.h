// tools/cli/demo_tier_rig.h - what the demo of the tiers works with: a node with three small tiers,
// a client, and the administration. Blocking; single-threaded.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "proto/tiers.pb.h"
#include "tools/cli/command.h"
#include "tools/cli/files.h"
#include "tools/cli/local_node.h"

namespace terrace {

class TierRig {
 public:
  static constexpr uint64_t kObjectBytes = kMiB;
  static constexpr uint64_t kDramBytes = 16 * kMiB;
  static constexpr uint64_t kNvmeBytes = 48 * kMiB;
  static constexpr uint64_t kPinnedMax = 2 * kMiB;

  /// A node with a keeper, so that its dram outlives it.
  static StatusOr<std::unique_ptr<TierRig>> start(const std::string& directory);
  /// SIGKILL, and a new node over what it left. How long until it served.
  StatusOr<Nanos> kill_and_restart();

  Status put(const std::string& name, Durability durability, const Retention& retention = {});
  struct Read {
    uint64_t wrong_bytes = 0;
    std::array<uint64_t, kTierCount> tier_bytes{};
  };
  /// The whole object, every byte compared. kNotFound: a miss.
  StatusOr<Read> get(const std::string& name);
  Status erase(const std::string& name);

  StatusOr<proto::ExplainReply> explain(const std::string& name);
  StatusOr<proto::TierStatusReply> tiers();
  Status pin(const std::string& name, bool pin);
  Status move(const std::string& name, const std::string& to);
  /// Of the whole namespace.
  StatusOr<proto::ClearProgress> clear();
  /// Waits a little, for what happens in the background.
  void pause() const;
  const std::string& node() const { return globals_.node; }

 private:
  explicit TierRig(TemporaryDirectory directory) : directory_(std::move(directory)) {}
  Status launch();
  StatusOr<proto::ObjectsOf> object(const std::string& name);

  TemporaryDirectory directory_;
  LocalNodeOptions options_;
  LocalNode node_;
  Globals globals_;
  std::optional<FileMover> mover_;
};
/// "dram, nvme".
std::string tiers_of(const proto::ExplainReply& said);
}  // namespace terrace
