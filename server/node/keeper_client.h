// server/node/keeper_client.h - a node's end of its keeper process. Thread-safe. Blocking: a call
// takes microseconds, and a keeper that does not answer is given up after two seconds.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "server/node/fd_packet.h"
#include "server/node/keeper_protocol.h"
#include "storage/slab_keeper.h"

namespace terrace {

class KeeperClient final : public SlabKeeper {
 public:
  struct Options {
    std::string socket;                 // a path
    std::array<std::byte, 16> owner{};  // the data directory, whose lock the caller holds
    seconds linger{0};                  // see KeeperOptions
    std::string program;  // `program --keeper ...` starts one; empty: only one that is there
  };
  /// Connects, after starting a keeper when there is none. kNotFound: none, and no program.
  /// kFailedPrecondition: it serves another data directory. kPermissionDenied: it is another
  /// user's. kUnavailable: it does not start, or does not answer.
  static StatusOr<std::unique_ptr<KeeperClient>> connect(const Options& options);

  /// Everything that it keeps, and goes on keeping. Errors: those of a keeper that is gone.
  StatusOr<std::vector<KeptFile>> take_all();
  Status keep(const std::string& name, const Fd& file) override;
  void forget(const std::string& name) override;
  /// It keeps nothing any more, and ends when this connection does.
  void clear();

 private:
  explicit KeeperClient(Fd socket) : socket_(std::move(socket)) {}
  Status call(const KeeperRequest& request, const Fd* file, FdPacket* answer, std::string* text);
  std::mutex mutex_;
  Fd socket_;  // guarded by mutex_; none: the keeper was given up
};
}  // namespace terrace
