// The hbm tier's memory as other processes read it: whose it is, where copies lie, taking it back.
#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "storage/core.h"
#include "storage/hbm_space.h"
#include "storage/hbm_tier.h"

namespace terrace {

void HbmTier::keep_for(DomainId domain) {
  TERRACE_CHECK(transfers_.started() == 0);  // who opens the memory sees all that was ever there
  only_for_ = domain;
}

/// Made when it is asked for: most nodes lend nothing.
Status HbmTier::make_loan() {
  auto loan = std::make_shared<DeviceLoan>();
  const DeviceResult named = slab_->handle(&loan->handle);
  if (!named.ok()) {
    return error(StatusCode::kUnavailable,
                 accelerator_->name() + " does not share its memory: " + named.message);
  }
  loan->id = ++last_loan_;
  loan->bytes = slab_->size_bytes();
  loan->keeps = lent_;
  loan_ = std::move(loan);
  return ok_status();
}

StatusOr<DeviceView> HbmTier::view(uint32_t id, const ObjectHeader& header,
                                   const ObjectLayout& layout) {
  if (only_for_ == kNobody) {
    return error(StatusCode::kFailedPrecondition,
                 "hbm holds the objects of all tenants: set the node's option hbm-tenant");
  }
  if (!has_all(id) || !works() || core_.index[id].has(IndexEntry::doomed)) {
    return error(StatusCode::kFailedPrecondition,
                 has(id) ? "only its first sections are in hbm: fetch it"
                         : "not in hbm: fetch it, which may bring it there");
  }
  const std::shared_ptr<HbmSpace>& space = copies_.at(id);
  if (loan_ == nullptr) TERRACE_RETURN_IF_ERROR(make_loan());
  DeviceView view{loan_, {}, space};
  for (uint32_t s = 0; s < header.sections.size(); ++s) {
    uint64_t left = header.sections[s].bytes;
    const uint64_t whole =
        (left + ExtentMap::kBlockBytes - 1) / ExtentMap::kBlockBytes * ExtentMap::kBlockBytes;
    for (const Extent& run : slice(space->extents(), layout.section_offset(s), whole)) {
      const uint64_t bytes = std::min(left, run.bytes());
      view.pieces.push_back({run.offset(), bytes});
      left -= bytes;
    }
  }
  return view;
}

void HbmTier::take_back() {
  if (loan_ == nullptr) return;
  const uint64_t id = std::exchange(loan_, nullptr)->id;
  if (core_.on_device_recall) core_.on_device_recall(id);
}
}  // namespace terrace
