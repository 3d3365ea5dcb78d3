// tests/sim/refusing_metadata.h - a durable index that refuses to write a row when a test asks for
// it. Used from the loop's thread.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "storage/metadata_store.h"

namespace terrace::testing {

/// What a test asks for.
struct RowRefusal {
  std::optional<uint64_t> skip;  // so many rows more are written, and then one is not
  uint64_t refused = 0;
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
    return MetadataStore::put(row, durable, op);
  }

 private:
  const std::shared_ptr<RowRefusal> refusal_;
};
}  // namespace terrace::testing
