// storage/row_queue.h - changes to the durable index, in order, each with its answer. Takes more
// than the metadata thread's queue does: a deletion must never be lost. Thread-confined.
#pragma once
#include <deque>
#include <functional>
#include <span>
#include <utility>

#include "base/limits.h"
#include "storage/calls.h"
#include "storage/index.h"
#include "storage/metadata_store.h"

namespace terrace {

class RowQueue {
 public:
  using Then = std::function<void(Status)>;
  RowQueue(MetadataStore* metadata, Loop* loop, Calls* calls)
      : metadata_(metadata), loop_(loop), calls_(calls) {}

  /// `then(OK)`: the row is in the store, and durable when `durable`.
  void put(MetadataRow row, bool durable, Then then) {
    add({std::move(row), durable ? Kind::put_durable : Kind::put, std::move(then)});
  }
  /// `then(OK)`: the row is gone for good.
  void erase(NamespaceId ns, const ChunkKey& key, uint64_t generation, Then then) {
    MetadataRow row;
    row.key = key;
    row.ns = ns;
    row.generation = generation;
    add({std::move(row), Kind::erase, std::move(then)});
  }
  bool idle() const { return running_ == 0 && waiting_.empty(); }

 private:
  enum class Kind : uint8_t { put, put_durable, erase };
  struct Change {
    MetadataRow row;
    Kind kind = Kind::put;
    Then then;
  };
  static constexpr size_t kRunningMax = 4096;

  void add(Change change) {
    waiting_.push_back(std::move(change));  // bounded by the objects that exist
    pump();
  }
  void pump() {
    while (!waiting_.empty() && running_ < kRunningMax) {
      Change& change = waiting_.front();
      Op* const op = calls_->make([this, then = std::move(change.then)](Status result) {
        --running_;
        pump();
        then(std::move(result));
      });
      ++running_;
      const MetadataRow& row = change.row;
      const Status started = change.kind == Kind::erase
                                 ? metadata_->erase(row.ns, row.key, row.generation, op)
                                 : metadata_->put(row, change.kind == Kind::put_durable, op);
      if (!started.ok()) loop_->defer(op, started);
      waiting_.pop_front();
    }
  }

  MetadataStore* const metadata_;
  Loop* const loop_;
  Calls* const calls_;
  size_t running_ = 0;
  std::deque<Change> waiting_;
};
}  // namespace terrace
