// server/node/device_lender.h - which clients have the node's device memory open, and how it is
// called back. Loop thread only.
//
// A client opens the memory with its first view in it, and keeps it open until it is called back
// and it has no view there any more; then it says so. A client whose session ends is taken to have
// let go after a grace, like its views (view_table.h). What is lent when the node ends is left to
// the clients: it goes with the process.
#pragma once
#include <cstddef>
#include <deque>
#include <memory>
#include <unordered_map>
#include <utility>

#include "base/counter.h"
#include "base/loop.h"
#include "storage/device_view.h"
#include "transport/transport.h"

namespace terrace {

class DeviceLender {
 public:
  DeviceLender(Loop* loop, Transport* transport, Nanos grace);
  ~DeviceLender();
  /// The next reply tells `peer` of `loan`. kFailedPrecondition: it has not given back an earlier
  /// one that was called back, so one client has at most one.
  Status lend(PeerId peer, std::shared_ptr<const DeviceLoan> loan);
  /// Asks all who have it for `loan`, again and again until they give it back or go.
  void call_back(uint64_t loan);
  /// The client's word that it has closed it. Of a loan that it does not have: ignored.
  void given_back(PeerId peer, uint64_t loan);
  void peer_gone(PeerId peer);
  /// Clients that have device memory open; a scraper may read it from any thread.
  const Counter& borrowers() const { return borrowers_; }

 private:
  struct Borrower {
    std::shared_ptr<const DeviceLoan> loan;
    bool called_back = false;
  };
  void ask();
  void rested();

  Loop* const loop_;
  Transport* const transport_;
  std::unordered_map<uint64_t, Borrower> by_peer_;
  const Nanos grace_;
  std::deque<std::pair<Nanos, std::shared_ptr<const DeviceLoan>>> resting_;  // free at
  Counter borrowers_;
  Timer ask_again_;
  Timer rest_timer_;
};
}  // namespace terrace
