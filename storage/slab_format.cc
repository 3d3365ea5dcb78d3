#include "storage/slab_format.h"

#include <cstring>
#include <string>

#include "base/bytes.h"
#include "base/crc32c.h"

namespace terrace {
namespace {
constexpr size_t kCrcOffset = kSlabHeaderBytes - 4;
constexpr size_t kCheckedBytes = kSlabClaimOffset;
}  // namespace

void encode(const SlabHeader& header, std::span<std::byte, kSlabHeaderBytes> into) {
  ByteWriter out;
  out.u64(SlabHeader::kMagic);
  out.u16(SlabHeader::kVersion);
  out.u16(0);
  out.u32(sizeof(SlabDirectoryEntry));
  out.raw(header.uuid.data(), header.uuid.size());
  out.u64(header.data_bytes);
  out.u64(header.first_block);
  out.raw(header.owner.data(), header.owner.size());
  out.u64(header.epoch);
  const std::string bytes = out.take();
  std::memset(into.data(), 0, into.size());
  std::memcpy(into.data(), bytes.data(), bytes.size());
  ByteWriter crc;
  crc.u32(crc32c(into.first(kCheckedBytes)));
  const std::string crc_bytes = crc.take();
  std::memcpy(into.data() + kCrcOffset, crc_bytes.data(), crc_bytes.size());
}

StatusOr<SlabHeader> decode_slab_header(std::span<const std::byte, kSlabHeaderBytes> block) {
  ByteReader in({reinterpret_cast<const char*>(block.data()), block.size()});
  if (in.u64() != SlabHeader::kMagic) return error(StatusCode::kDataLoss, "slab: bad magic");
  const uint16_t version = in.u16();
  ByteReader tail({reinterpret_cast<const char*>(block.data()) + kCrcOffset, 4});
  if (crc32c(block.first(kCheckedBytes)) != tail.u32()) {
    return error(StatusCode::kDataLoss, "slab: header checksum differs");
  }
  in.u16();
  const uint32_t entry_bytes = in.u32();
  if (version != SlabHeader::kVersion || entry_bytes != sizeof(SlabDirectoryEntry)) {
    return error(StatusCode::kFailedPrecondition,
                 "slab: version " + std::to_string(version) + " with directory entries of " +
                     std::to_string(entry_bytes) + " bytes; this build knows version 2 with 16");
  }
  SlabHeader header;
  in.raw(header.uuid.data(), header.uuid.size());
  header.data_bytes = in.u64();
  header.first_block = in.u64();
  in.raw(header.owner.data(), header.owner.size());
  header.epoch = in.u64();
  return header;
}
}  // namespace terrace
