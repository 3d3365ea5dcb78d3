// server/node/openings.h - opens the objects of one request, a bounded number at once. What has to
// come from the shared tier is waited for half of the request's time: the rest need not be late for
// it. Loop thread only.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "server/node/session.h"

namespace terrace {

class Openings {
 public:
  /// `reader` and `code` stay in place until it is over; kOk: the reader is open.
  struct Item {
    ChunkKey key;
    ChunkReader* reader = nullptr;
    StatusCode* code = nullptr;
  };
  /// `owner` as in ChunkStore::open_reader.
  Openings(NodeContext* context, uint64_t owner);
  /// It is over, or never started.
  ~Openings();
  /// `over` runs once, when every item has its code; perhaps inside this call, or inside cancel().
  /// `deadline_ms` of the request; 0: it has none. Once.
  void start(NamespaceId ns, std::vector<Item> items, uint32_t deadline_ms,
             std::function<void()> over);
  /// Opens nothing more: items that were not begun get `why`, as do those that wait.
  void cancel(StatusCode why);

 private:
  static constexpr uint32_t kRunningMax = 32;
  struct Opening final : Op {
    Opening(Openings* o, size_t i) : owner(o), index(i) {}
    void done(Status result) override { owner->opened(index, result.code()); }
    Openings* const owner;
    const size_t index;
  };
  void open_more();
  void opened(size_t index, StatusCode code);
  void give_up_waiting(StatusCode why);
  void end_when_over();

  NodeContext* const context_;
  const uint64_t owner_;
  NamespaceId ns_{};
  std::vector<Item> items_;
  std::vector<std::unique_ptr<Opening>> openings_;
  std::function<void()> over_;
  size_t next_ = 0;
  uint32_t running_ = 0;
  bool late_ = false;
  StatusCode cancelled_ = StatusCode::kOk;
  Timer patience_;
};
}  // namespace terrace
