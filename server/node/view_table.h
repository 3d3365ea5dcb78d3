// server/node/view_table.h - who holds which bytes of the dram or hbm tier in view, and what it
// takes to get them back. Loop thread only.
//
// A view pins its object. It ends when the client releases it; when the client's connection ends;
// or, the oldest first, when another view needs the quota and the oldest has been held for longer
// than `hold_max`. In the last two cases a reader may be in the middle of a copy: the view's word
// on the board changes at once, and the bytes rest for `grace` before they are used again. A reader
// that looks at the word after its last read learns that it must not use what it read.
#pragma once
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>

#include "base/chunk_key.h"
#include "base/counter.h"
#include "base/loop.h"
#include "server/node/view_board.h"
#include "transport/transport.h"

namespace terrace {

struct ViewOptions {
  uint64_t bytes_max = 0;         // of all views of dram; one client has at most half of it
  uint64_t device_bytes_max = 0;  // the same of device memory
  Nanos hold_max{0};
  Nanos grace{0};
};

/// Written by the loop; a scraper may read from any thread.
struct ViewMetrics {
  Counter views;    // now, those that rest left out
  Counter device;   // of these: of device memory
  Counter bytes;    // pinned now, for views and for those that rest
  Counter granted;  // ever
  Counter refused;  // over the quota
  Counter revoked;
};

class ViewTable {
 public:
  static constexpr uint32_t kViewsMax = ViewBoard::kWords;
  struct Grant {
    uint64_t id = 0;
    uint64_t generation = 0;
    const std::byte* word = nullptr;  // on the board
  };

  ViewTable(Loop* loop, ViewBoard* board, const ViewOptions& options);
  /// close() was called.
  ~ViewTable();

  /// What is to be shown: `hold` keeps the object's bytes where they are.
  struct Shown {
    ChunkKey key;
    std::shared_ptr<const void> hold;
    uint64_t bytes = 0;
    bool on_device = false;
  };
  /// A view of it. kResourceExhausted names the limit and what to do.
  StatusOr<Grant> grant(PeerId peer, Shown shown);
  /// The client reads it no more: its bytes are free at once. Ids of others are ignored.
  void release(PeerId peer, uint64_t id);
  /// All of the peer's views end.
  void peer_gone(PeerId peer);
  /// The object's bytes failed a checksum: no view of it is valid any more.
  void condemn(const ChunkKey& key);
  /// No view of device memory is valid any more.
  void revoke_device();
  /// As in ViewOptions, from now on; what is in view stays.
  void limit(uint64_t bytes_max) { dram_.bytes_max = bytes_max; }
  void limit_device(uint64_t bytes_max) { device_.bytes_max = bytes_max; }
  /// Lets go of everything.
  void close();
  const ViewMetrics& metrics() const { return metrics_; }

 private:
  struct View {
    PeerId peer{};
    Shown shown;
    uint32_t word = 0;
    Nanos since{0};
    bool resting = false;
  };
  using Views = std::map<uint64_t, View>;  // ids rise: the first is the oldest
  void invalidate(View* view);
  void rest(Views::iterator view);
  /// What all views of one kind of memory may have, and have.
  struct Quota {
    uint64_t bytes_max = 0;
    uint64_t bytes = 0;
    std::unordered_map<uint64_t, uint64_t> by_peer;
    /// kResourceExhausted: not so much more for this peer, `fits`: though for another.
    Status check(uint64_t peer, uint64_t more, const char* limit, bool* fits) const;
    void take(uint64_t peer, uint64_t more);
    void give_back(uint64_t peer, uint64_t less);
  };
  Quota& quota(bool on_device) { return on_device ? device_ : dram_; }
  void revoke_old(uint64_t bytes_wanted, bool on_device);
  Views::iterator drop(Views::iterator view);
  void rested();

  Loop* const loop_;
  ViewBoard* const board_;
  const ViewOptions options_;
  ViewMetrics metrics_;
  Views views_;
  Quota dram_, device_;
  std::unordered_map<uint64_t, uint32_t> views_of_;  // by peer
  uint64_t next_id_ = 1;
  std::deque<std::pair<Nanos, uint64_t>> resting_;  // free at, id
  Timer rest_timer_;
};
}  // namespace terrace
