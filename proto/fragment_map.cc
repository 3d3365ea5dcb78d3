#include "proto/fragment_map.h"

#include <algorithm>
#include <string>

namespace terrace {

StatusOr<FragmentMap> FragmentMap::create(std::vector<Fragment> fragments) {
  FragmentMap map;
  std::sort(fragments.begin(), fragments.end(),
            [](const Fragment& a, const Fragment& b) { return a.object_offset < b.object_offset; });
  for (const Fragment& f : fragments) {
    if (f.length == 0 || f.object_offset + f.length < f.object_offset) {
      return error(StatusCode::kInvalidArgument, "fragment at object offset " +
                                                     std::to_string(f.object_offset) + " has " +
                                                     std::to_string(f.length) + " bytes");
    }
    const uint64_t end = map.runs_.empty() ? 0 : map.runs_.back().end();
    if (f.object_offset < end) {
      return error(StatusCode::kInvalidArgument,
                   "fragment at object offset " + std::to_string(f.object_offset) +
                       " overlaps the one that ends at " + std::to_string(end));
    }
    if (!map.runs_.empty() && f.object_offset == end) {
      map.runs_.back().bytes += f.length;
    } else {
      map.runs_.push_back({f.object_offset, f.length});
    }
    map.bytes_ += f.length;
  }
  map.fragments_ = std::move(fragments);
  return map;
}

bool FragmentMap::covers(uint64_t object_bytes) const {
  return runs_.size() == 1 && runs_[0] == ByteRange{0, object_bytes};
}

uint64_t FragmentMap::locate(ByteRange range, size_t spans_max,
                             std::vector<RemoteSpan>* out) const {
  auto it =
      std::upper_bound(fragments_.begin(), fragments_.end(), range.offset,
                       [](uint64_t offset, const Fragment& f) { return offset < f.object_offset; });
  if (it == fragments_.begin()) return 0;
  --it;
  uint64_t at = range.offset;
  size_t added = 0;
  for (; it != fragments_.end() && at < range.end(); ++it) {
    if (it->object_offset > at || it->object_offset + it->length <= at) break;  // a gap
    const uint64_t skip = at - it->object_offset;
    const uint64_t length = std::min(it->length - skip, range.end() - at);
    const RemoteSpan span{it->region, it->offset + skip, length};
    // Neighbours in memory become one span: fewer entries on the wire, longer copies.
    if (added > 0 && out->back().region == span.region &&
        out->back().offset + out->back().length == span.offset) {
      out->back().length += length;
    } else {
      if (added == spans_max) break;
      out->push_back(span);
      ++added;
    }
    at += length;
  }
  return at - range.offset;
}
}  // namespace terrace
