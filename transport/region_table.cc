#include "transport/region_table.h"

#include <string>

#include "base/check.h"
#include "base/limits.h"

namespace terrace {
namespace {

std::string name_of(const RemoteSpan& span) {
  return "[" + std::to_string(span.offset) + ", +" + std::to_string(span.length) + ") of region " +
         std::to_string(static_cast<uint64_t>(span.region));
}
}  // namespace

StatusOr<RegionId> RegionTable::add(std::span<std::byte> memory) {
  if (memory.empty()) return error(StatusCode::kInvalidArgument, "an empty region");
  if (regions_.size() >= kRegionsPerSessionMax) {
    return error(StatusCode::kResourceExhausted,
                 "over " + std::to_string(kRegionsPerSessionMax) + " regions");
  }
  const uint64_t id = next_id_++;
  regions_.emplace(id, Region{.memory = memory});
  return static_cast<RegionId>(id);
}

Status RegionTable::check(RegionId region) const {
  if (regions_.contains(static_cast<uint64_t>(region))) return ok_status();
  return error(StatusCode::kNotFound, "region " + std::to_string(static_cast<uint64_t>(region)));
}

Status RegionTable::remove(RegionId region) {
  TERRACE_RETURN_IF_ERROR(check(region));
  const auto it = regions_.find(static_cast<uint64_t>(region));
  if (it->second.pins > 0) {
    return error(StatusCode::kFailedPrecondition,
                 "region " + std::to_string(it->first) + " is used by " +
                     std::to_string(it->second.pins) + " transfers; cancel and wait for them");
  }
  regions_.erase(it);
  return ok_status();
}

bool RegionTable::pinned(RegionId region) const {
  const auto found = regions_.find(static_cast<uint64_t>(region));
  return found != regions_.end() && found->second.pins > 0;
}

std::span<std::byte> RegionTable::find(RegionId region) const {
  const auto it = regions_.find(static_cast<uint64_t>(region));
  return it == regions_.end() ? std::span<std::byte>() : it->second.memory;
}

Status RegionTable::resolve(std::span<const RemoteSpan> spans, std::vector<iovec>* places) const {
  const size_t before = places->size();
  Status bad;
  for (const RemoteSpan& span : spans) {
    const auto it = regions_.find(static_cast<uint64_t>(span.region));
    if (it == regions_.end()) {
      const uint64_t id = static_cast<uint64_t>(span.region);
      const bool was = id != 0 && id < next_id_;
      // A lie among the spans weighs more than a region that is gone.
      if (was && bad.ok()) bad = error(StatusCode::kNotFound, name_of(span) + ", which is gone");
      if (!was) bad = error(StatusCode::kOutOfRange, name_of(span) + ", which never was");
      if (!was) break;
      continue;
    }
    const std::span<std::byte> memory = it->second.memory;
    if (span.offset > memory.size() || span.length > memory.size() - span.offset) {
      bad = error(StatusCode::kOutOfRange,
                  name_of(span) + " of " + std::to_string(memory.size()) + " bytes");
      break;
    }
    places->push_back({memory.data() + span.offset, span.length});
  }
  if (!bad.ok()) places->resize(before);
  return bad;
}

void RegionTable::pin(std::span<const RemoteSpan> spans) {
  for (const RemoteSpan& span : spans) {
    const auto it = regions_.find(static_cast<uint64_t>(span.region));
    TERRACE_CHECK(it != regions_.end());
    ++it->second.pins;
  }
}

void RegionTable::unpin(std::span<const RemoteSpan> spans) {
  for (const RemoteSpan& span : spans) {
    const auto it = regions_.find(static_cast<uint64_t>(span.region));
    TERRACE_CHECK(it != regions_.end() && it->second.pins > 0);
    --it->second.pins;
  }
}
}  // namespace terrace
