#include "proto/fragment_map.h"

#include <algorithm>
#include <string>

namespace terrace {
namespace {

constexpr uint64_t kRegionOffsetMax = uint64_t{1} << 63;

Status bad(const std::string& what) {
  return error(StatusCode::kInvalidArgument, what);
}

Status check_plane(const PoolPlane& plane, size_t blocks, uint32_t last_block) {
  const auto end = static_cast<unsigned __int128>(plane.block_stride) * last_block + plane.offset +
                   plane.block_bytes;
  if (end > kRegionOffsetMax) {
    return bad("block " + std::to_string(last_block) + " of stride " +
               std::to_string(plane.block_stride) + " lies past the address space");
  }
  const auto bytes = static_cast<unsigned __int128>(plane.block_bytes) * blocks;
  if (bytes == 0 || plane.object_offset + bytes > kRegionOffsetMax) {
    return bad("plane at object offset " + std::to_string(plane.object_offset) + " has " +
               std::to_string(blocks) + " blocks of " + std::to_string(plane.block_bytes) +
               " bytes");
  }
  return ok_status();
}
}  // namespace

bool FragmentMap::add_run(ByteRange run) {
  const uint64_t end = runs_.empty() ? 0 : runs_.back().end();
  if (run.offset < end) return false;
  if (!runs_.empty() && run.offset == end) {
    runs_.back().bytes += run.bytes;
  } else {
    runs_.push_back(run);
  }
  bytes_ += run.bytes;
  return true;
}

StatusOr<FragmentMap> FragmentMap::create(std::vector<Fragment> fragments) {
  FragmentMap map;
  std::sort(fragments.begin(), fragments.end(),
            [](const Fragment& a, const Fragment& b) { return a.object_offset < b.object_offset; });
  for (const Fragment& f : fragments) {
    if (f.length == 0 || f.object_offset + f.length < f.object_offset) {
      return bad("fragment at object offset " + std::to_string(f.object_offset) + " has " +
                 std::to_string(f.length) + " bytes");
    }
    if (map.add_run({f.object_offset, f.length})) continue;
    return bad("fragment at object offset " + std::to_string(f.object_offset) +
               " overlaps the one that ends at " + std::to_string(map.runs_.back().end()));
  }
  map.fragments_ = std::move(fragments);
  return map;
}

StatusOr<FragmentMap> FragmentMap::create_paged(std::shared_ptr<const PagedPool> pool,
                                                std::vector<uint32_t> blocks) {
  if (pool == nullptr || pool->empty()) return bad("block ids without a paged pool");
  if (blocks.empty()) return bad("a paged pool without block ids");
  const uint32_t last = *std::max_element(blocks.begin(), blocks.end());
  FragmentMap map;
  for (const PoolPlane& plane : *pool) {
    TERRACE_RETURN_IF_ERROR(check_plane(plane, blocks.size(), last));
    if (map.add_run({plane.object_offset, plane.block_bytes * blocks.size()})) continue;
    return bad("plane at object offset " + std::to_string(plane.object_offset) +
               " overlaps the one that ends at " + std::to_string(map.runs_.back().end()) +
               ", or is out of order: " + std::to_string(blocks.size()) + " blocks of " +
               std::to_string(plane.block_bytes) + " bytes");
  }
  map.pool_ = std::move(pool);
  map.blocks_ = std::move(blocks);
  return map;
}

bool FragmentMap::covers(uint64_t object_bytes) const {
  return runs_.size() == 1 && runs_[0] == ByteRange{0, object_bytes};
}

bool FragmentMap::seek(uint64_t offset, Cursor* cursor) const {
  if (!paged()) {
    const auto after = std::upper_bound(
        fragments_.begin(), fragments_.end(), offset,
        [](uint64_t wanted, const Fragment& f) { return wanted < f.object_offset; });
    if (after == fragments_.begin()) return false;
    *cursor = {static_cast<size_t>(after - fragments_.begin()) - 1, 0};
    return true;
  }
  const auto after = std::upper_bound(
      pool_->begin(), pool_->end(), offset,
      [](uint64_t wanted, const PoolPlane& p) { return wanted < p.object_offset; });
  if (after == pool_->begin()) return false;
  const PoolPlane& plane = *std::prev(after);
  const uint64_t block = (offset - plane.object_offset) / plane.block_bytes;
  *cursor = {static_cast<size_t>(after - pool_->begin()) - 1,
             std::min<uint64_t>(block, blocks_.size() - 1)};
  return true;
}

bool FragmentMap::at_end(const Cursor& cursor) const {
  return cursor.entry == (paged() ? pool_->size() : fragments_.size());
}

Fragment FragmentMap::piece(const Cursor& cursor) const {
  if (!paged()) return fragments_[cursor.entry];
  const PoolPlane& plane = (*pool_)[cursor.entry];
  return {plane.object_offset + cursor.block * plane.block_bytes, plane.region,
          plane.offset + blocks_[cursor.block] * plane.block_stride, plane.block_bytes};
}

void FragmentMap::step(Cursor* cursor) const {
  if (paged() && ++cursor->block < blocks_.size()) return;
  *cursor = {cursor->entry + 1, 0};
}

uint64_t FragmentMap::locate(ByteRange range, size_t spans_max,
                             std::vector<RemoteSpan>* out) const {
  Cursor cursor;
  if (!seek(range.offset, &cursor)) return 0;
  uint64_t at = range.offset;
  size_t added = 0;
  for (; !at_end(cursor) && at < range.end(); step(&cursor)) {
    const Fragment f = piece(cursor);
    if (f.object_offset > at || f.object_offset + f.length <= at) break;  // a gap
    const uint64_t skip = at - f.object_offset;
    const uint64_t length = std::min(f.length - skip, range.end() - at);
    const RemoteSpan span{f.region, f.offset + skip, length};
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
