#include "client/regions.h"

#include <algorithm>
#include <string>

#include "base/check.h"
#include "base/crc32c.h"

namespace terrace {
namespace {

std::string name_of(RegionId region) {
  return "region " + std::to_string(static_cast<uint64_t>(region));
}
}  // namespace

void MemoryTable::add(RegionId region, std::span<std::byte> memory) {
  const std::lock_guard lock(mutex_);
  regions_[region].memory = memory;
}

Status MemoryTable::begin_remove(RegionId region) {
  const std::lock_guard lock(mutex_);
  const auto found = regions_.find(region);
  if (found == regions_.end() || found->second.removing) {
    return error(StatusCode::kNotFound, name_of(region) + " is not registered");
  }
  if (found->second.uses > 0) {
    return error(StatusCode::kFailedPrecondition, name_of(region) + " is used by " +
                                                      std::to_string(found->second.uses) +
                                                      " operations in flight");
  }
  found->second.removing = true;
  return ok_status();
}

void MemoryTable::keep(RegionId region) {
  const std::lock_guard lock(mutex_);
  regions_[region].removing = false;
}

void MemoryTable::remove(RegionId region) {
  const std::lock_guard lock(mutex_);
  regions_.erase(region);
}

size_t MemoryTable::size() const {
  const std::lock_guard lock(mutex_);
  return regions_.size();
}

StatusOr<std::span<std::byte>> MemoryTable::begin_use(RegionId region) {
  const std::lock_guard lock(mutex_);
  const auto found = regions_.find(region);
  if (found == regions_.end() || found->second.removing) {
    return error(StatusCode::kInvalidArgument, name_of(region) + " is not registered");
  }
  ++found->second.uses;
  return found->second.memory;
}

void MemoryTable::end_use(RegionId region) {
  const std::lock_guard lock(mutex_);
  const auto found = regions_.find(region);
  TERRACE_CHECK(found != regions_.end() && found->second.uses > 0);
  --found->second.uses;
}

RegionUses::RegionUses(RegionUses&& other) noexcept
    : table_(other.table_), uses_(std::move(other.uses_)) {
  other.uses_.clear();
}

const RegionUses::Use* RegionUses::find(RegionId region) const {
  const auto it =
      std::lower_bound(uses_.begin(), uses_.end(), region,
                       [](const Use& use, RegionId wanted) { return use.region < wanted; });
  return it != uses_.end() && it->region == region ? &*it : nullptr;
}

Status RegionUses::add(const RemoteSpan& place) {
  const Use* use = find(place.region);
  if (use == nullptr) {
    TERRACE_ASSIGN_OR_RETURN(const std::span<std::byte> memory, table_->begin_use(place.region));
    const auto it =
        std::lower_bound(uses_.begin(), uses_.end(), place.region,
                         [](const Use& u, RegionId wanted) { return u.region < wanted; });
    use = &*uses_.insert(it, {place.region, memory});
  }
  if (place.length > use->memory.size() || place.offset > use->memory.size() - place.length) {
    return error(StatusCode::kInvalidArgument, "a place of " + std::to_string(place.length) +
                                                   " bytes at " + std::to_string(place.offset) +
                                                   " of " + name_of(place.region) + ", which has " +
                                                   std::to_string(use->memory.size()) + " bytes");
  }
  return ok_status();
}

void RegionUses::release() {
  for (const Use& use : uses_) table_->end_use(use.region);
  uses_.clear();
}

std::span<std::byte> RegionUses::at(const RemoteSpan& span) const {
  const Use* use = find(span.region);
  if (use == nullptr || span.length > use->memory.size() ||
      span.offset > use->memory.size() - span.length) {
    return {};
  }
  return use->memory.subspan(span.offset, span.length);
}

void gather(const FragmentMap& map, ByteRange range, const RegionUses& memory,
            std::vector<std::span<const std::byte>>* pieces) {
  std::vector<RemoteSpan> spans;
  const uint64_t found = map.locate(range, FragmentMap::kNoLimit, &spans);
  TERRACE_CHECK(found == range.bytes);
  for (const RemoteSpan& span : spans) {
    const std::span<std::byte> bytes = memory.at(span);
    TERRACE_CHECK(bytes.size() == span.length);
    pieces->push_back(bytes);
  }
}

uint32_t PieceReader::crc_of_next(uint64_t bytes, uint32_t crc) {
  while (bytes > 0) {
    TERRACE_CHECK(!pieces_.empty());
    const std::span<const std::byte> rest = pieces_.front().subspan(at_);
    const uint64_t length = std::min<uint64_t>(rest.size(), bytes);
    crc = crc32c(rest.first(length), crc);
    bytes -= length;
    at_ += length;
    if (at_ == pieces_.front().size()) {
      pieces_ = pieces_.subspan(1);
      at_ = 0;
    }
  }
  return crc;
}
}  // namespace terrace
