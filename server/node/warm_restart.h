// server/node/warm_restart.h - where a node leaves its memory for the next one: chooses the keeper,
// takes from it what an earlier run left, and makes old views invalid before anything else happens
// to their bytes.
#pragma once
#include <array>
#include <cstddef>
#include <memory>
#include <vector>

#include "server/node/config.h"
#include "server/node/keeper_client.h"
#include "server/node/namespace_table.h"
#include "server/node/view_board.h"
#include "storage/slab_keeper.h"

namespace terrace {

class WarmRestart {
 public:
  /// The caller holds the lock of the data directory, whose uuid `owner` is. What an earlier run
  /// left with a keeper that is not chosen now is let go. Errors: those of
  /// KeeperClient::connect() and SystemdStore::open(), and of mapping the board.
  static StatusOr<std::unique_ptr<WarmRestart>> open(const NodeConfig& config,
                                                     const std::array<std::byte, 16>& owner);
  /// The board of the earlier run, on which no old view is valid any more, or a new one whose words
  /// begin with `first_value`; kept, unless warm-restart=off. Once.
  StatusOr<ViewBoard> take_board(uint64_t first_value);
  /// What the store takes back. Once, after take_board(): slabs without the board that says who may
  /// read them are let go.
  SlabKeeping take_slabs(const NamespaceTable& namespaces);

 private:
  Status use_keeper(const KeeperClient::Options& options);
  WarmRestart() = default;
  void let_go(std::vector<KeptFile> files);

  std::array<std::byte, 16> owner_{};
  std::unique_ptr<SlabKeeper> keeper_;  // null: off, or it does not answer
  std::vector<KeptFile> files_;
};
}  // namespace terrace
