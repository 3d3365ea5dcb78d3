// server/node/systemd_store.h - systemd as the keeper of a node's memory: its file-descriptor
// store, by the notification protocol (a datagram to $NOTIFY_SOCKET) and socket passing
// ($LISTEN_FDS). Thread-safe.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "storage/slab_keeper.h"

namespace terrace {

/// What systemd says in the environment; main() reads it.
struct SystemdFacts {
  std::string notify_socket;  // $NOTIFY_SOCKET; empty: no systemd, or it does not listen to us
  std::string listen_pid;     // $LISTEN_PID: whom the descriptors are for
  std::string listen_fds;     // $LISTEN_FDS: how many, from 3 on
  std::string listen_names;   // $LISTEN_FDNAMES: their names, ':' between them
  std::string store_max;      // $FDSTORE: how many it stores (from systemd 254 on)
};
/// `environment`: as main() gets it, null-terminated "NAME=value".
SystemdFacts systemd_facts(const char* const* environment);

class SystemdStore final : public SlabKeeper {
 public:
  /// `owner`: of the data directory; names in the store begin with it, and others are left alone.
  /// kFailedPrecondition: systemd does not listen; the message says what the unit needs.
  static StatusOr<std::unique_ptr<SystemdStore>> open(const SystemdFacts& facts,
                                                      const std::array<std::byte, 16>& owner);
  /// What an earlier run stored, once: the descriptors are the caller's then. `first`: the number
  /// of the first of them. kInvalidArgument: numbers and names do not fit together.
  StatusOr<std::vector<KeptFile>> take_all(int first = 3);
  /// systemd does not answer: one that stores fewer than it is given drops the rest.
  Status keep(const std::string& name, const Fd& file) override;
  void forget(const std::string& name) override;

 private:
  SystemdStore(const SystemdFacts& facts, std::string prefix, Fd socket)
      : facts_(facts), prefix_(std::move(prefix)), socket_(std::move(socket)) {}
  Status notify(const std::string& text, const Fd* file);

  const SystemdFacts facts_;
  const std::string prefix_;
  std::mutex mutex_;
  Fd socket_;            // guarded by mutex_
  uint64_t stored_ = 0;  // the same
};
}  // namespace terrace
