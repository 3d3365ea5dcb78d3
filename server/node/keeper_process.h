// server/node/keeper_process.h - the process that keeps a node's memory while the node is not
// there: `terraced --keeper`, started by the node itself. It holds descriptors and touches nothing
// of what they hold.
#pragma once
#include <array>
#include <cstddef>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/status.h"

namespace terrace {

struct KeeperOptions {
  std::string socket;                 // a path; what lies there is replaced
  std::array<std::byte, 16> owner{};  // the data directory that it serves, and no other
  seconds linger{0};                  // without a node; then it ends, and the memory is gone
};

/// A keeper that listens, and does not serve yet.
class Keeper {
 public:
  /// kUnavailable, kInvalidArgument: it cannot listen there.
  static StatusOr<Keeper> listen(const KeeperOptions& options);
  Keeper(Keeper&&) noexcept;
  ~Keeper();
  /// Until no node was connected for the linger time, or nothing is kept and nobody is connected
  /// any more, or `stop` is readable (-1: never). Removes the socket.
  void serve(int stop);

 private:
  struct Core;
  explicit Keeper(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};

/// The program: `words` are SOCKET OWNER_HEX LINGER_S. Returns the exit status when the keeper
/// listens; another process, detached from this one and its terminal, serves. Single-threaded
/// until then.
int run_keeper_program(int count, const char* const* words);
/// A slab is a descriptor: as many of them as the machine allows.
void raise_descriptor_limit();
/// OWNER_HEX of an owner.
std::string keeper_owner_text(const std::array<std::byte, 16>& owner);
}  // namespace terrace
