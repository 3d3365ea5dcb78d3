// tests/sim/refusing_metadata.h - a durable index that refuses to write a row, or says late that it
// has, when a test asks for it. Used from the loop's thread.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "storage/metadata_store.h"

namespace terrace::testing {

/// An answer that is kept back.
struct HeldAnswer final : Op {
  Op* op = nullptr;  // null: nobody has asked yet
  std::optional<Status> said;
  bool let_go = false;
  void done(Status result) override {
    if (let_go) return op->done(std::move(result));
    said = std::move(result);
  }
  void release() {
    let_go = true;
    if (said) op->done(*said);
  }
};

/// What a test asks for.
struct RowRefusal {
  std::optional<uint64_t> skip;  // so many rows more are written, and then one is not
  uint64_t refused = 0;
  std::optional<ChunkKey> hold;  // the next row of it is written, and nobody hears of that
  HeldAnswer held;
};

class RefusingMetadata final : public MetadataStore {
 public:
  RefusingMetadata(MetadataStore&& real, std::shared_ptr<RowRefusal> refusal)
      : MetadataStore(std::move(real)), refusal_(std::move(refusal)) {}
  Status put(const MetadataRow& row, bool durable, Op* op) override {
    if (refusal_->skip && (*refusal_->skip)-- == 0) {
      refusal_->skip.reset();
      ++refusal_->refused;
      return error(StatusCode::kUnavailable, "the index takes no row now");
    }
    if (refusal_->hold == row.key) {
      refusal_->hold.reset();
      refusal_->held.op = std::exchange(op, &refusal_->held);
    }
    return MetadataStore::put(row, durable, op);
  }

 private:
  const std::shared_ptr<RowRefusal> refusal_;
};
}  // namespace terrace::testing
