#include "storage/use_file.h"

#include <bit>
#include <utility>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "storage/durable_file.h"

namespace terrace {
namespace {
constexpr std::string_view kTag = "terrace uses ";
constexpr uint16_t kVersion = 1;
constexpr size_t kFixedBytes = kTag.size() + 2 + 8 + 8 + 4 + 4;
constexpr uint64_t kTakenMaxS = uint64_t{1} << 40;
constexpr size_t kObjectBytes = 16;
constexpr size_t kCrcBytes = 4;
constexpr size_t kFileMax = kFixedBytes + 8 * UseMemory::kModelNumbersMax +
                            kObjectBytes * UseMemory::kObjectsMax + kCrcBytes;

Status damaged(const std::string& what) {
  return error(StatusCode::kDataLoss, std::string(kUseFile) + ": " + what);
}

Status decode_objects(ByteReader* in, uint32_t count, UseMemory* memory) {
  memory->objects.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    UseMemory::Object object;
    object.name = in->u64();
    object.age_ms = in->u32();
    object.history.uses = in->u16();
    object.history.last_gap = in->u8();
    const bool good =
        in->u8() == 0 && object.history.uses > 0 && object.history.last_gap <= UseHistory::kGapMax;
    if (!good) return damaged("object " + std::to_string(i));
    memory->objects.push_back(object);
  }
  return ok_status();
}
}  // namespace

std::string encode_uses(const UseFile& file) {
  ByteWriter out;
  out.raw(kTag);
  out.u16(kVersion);
  out.u64(static_cast<uint64_t>(file.taken_s));
  out.u64(file.memory.left_out);
  out.u32(static_cast<uint32_t>(file.memory.model.size()));
  out.u32(static_cast<uint32_t>(file.memory.objects.size()));
  for (const double number : file.memory.model) out.u64(std::bit_cast<uint64_t>(number));
  for (const UseMemory::Object& object : file.memory.objects) {
    out.u64(object.name);
    out.u32(object.age_ms);
    out.u16(object.history.uses);
    out.u8(object.history.last_gap);
    out.u8(0);  // reserved
  }
  std::string bytes = out.take();
  ByteWriter crc;
  crc.u32(crc32c(bytes));
  return bytes + crc.take();
}

StatusOr<UseFile> decode_uses(std::string_view bytes) {
  if (bytes.size() < kTag.size() + 2 || !bytes.starts_with(kTag))
    return damaged("another kind of file");
  ByteReader in(bytes.substr(kTag.size()));
  const uint16_t version = in.u16();
  if (version > kVersion) {
    return error(StatusCode::kFailedPrecondition,
                 std::string(kUseFile) + ": version " + std::to_string(version) +
                     "; this build knows " + std::to_string(kVersion));
  }
  if (version == 0) return damaged("version 0");
  if (bytes.size() < kFixedBytes + kCrcBytes) return damaged("cut short");
  const std::string_view body = bytes.substr(0, bytes.size() - kCrcBytes);
  if (ByteReader(bytes.substr(body.size())).u32() != crc32c(body)) {
    return damaged("its checksum differs");
  }
  UseFile file;
  const uint64_t taken_s = in.u64();
  if (taken_s > kTakenMaxS) return damaged("of an impossible time");
  file.taken_s = static_cast<int64_t>(taken_s);
  file.memory.left_out = in.u64();
  const uint32_t numbers = in.u32();
  const uint32_t objects = in.u32();
  const bool bounded = numbers <= UseMemory::kModelNumbersMax && objects <= UseMemory::kObjectsMax;
  if (!bounded ||
      body.size() != kFixedBytes + 8 * uint64_t{numbers} + kObjectBytes * uint64_t{objects}) {
    return damaged(std::to_string(numbers) + " numbers and " + std::to_string(objects) +
                   " objects in " + std::to_string(bytes.size()) + " bytes");
  }
  for (uint32_t i = 0; i < numbers; ++i) {
    file.memory.model.push_back(std::bit_cast<double>(in.u64()));
  }
  TERRACE_RETURN_IF_ERROR(decode_objects(&in, objects, &file.memory));
  return file;
}

Status write_uses(const std::string& directory, const UseFile& file) {
  return write_durably(directory, kUseFile, encode_uses(file));
}

StatusOr<UseFile> read_uses(const std::string& directory) {
  TERRACE_ASSIGN_OR_RETURN(const std::string bytes,
                           read_whole(directory + "/" + kUseFile, kFileMax));
  return decode_uses(bytes);
}
}  // namespace terrace
