#include "storage/device_list.h"

#include <set>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "storage/durable_file.h"

namespace terrace {
namespace {
constexpr std::string_view kTag = "terrace devices 1\n";
constexpr size_t kPathMax = 4096;
constexpr size_t kFileMax = 256 * kKiB;

Status damaged(const std::string& what) {
  return error(StatusCode::kDataLoss, "DEVICES: " + what);
}

}  // namespace

std::string encode_device_list(const DeviceList& list) {
  ByteWriter out;
  out.raw(kTag);
  out.u16(list.next_place);
  out.u16(static_cast<uint16_t>(list.devices.size()));
  for (const DeviceRecord& record : list.devices) {
    out.u16(record.place);
    out.raw(record.device.data(), record.device.size());
    out.text(record.path);
  }
  std::string bytes = out.take();
  ByteWriter crc;
  crc.u32(crc32c(bytes));
  return bytes + crc.take();
}

StatusOr<DeviceList> decode_device_list(std::string_view bytes) {
  if (bytes.size() < kTag.size() + 8) return damaged("cut short");
  const std::string_view body = bytes.substr(0, bytes.size() - 4);
  if (ByteReader(bytes.substr(body.size())).u32() != crc32c(body)) {
    return damaged("its checksum differs");
  }
  ByteReader in(body);
  if (in.raw(kTag.size()) != kTag) return damaged("of another version");
  DeviceList list;
  list.next_place = in.u16();
  const uint16_t count = in.u16();
  if (count > kNvmeDevicesMax) return damaged(std::to_string(count) + " devices");
  if (list.next_place > DataFileIdentity::kPlaceMax + 1) {
    return damaged("next place " + std::to_string(list.next_place));
  }
  std::set<uint16_t> places;
  for (uint16_t i = 0; i < count && in.ok(); ++i) {
    DeviceRecord record;
    record.place = in.u16();
    in.raw(record.device.data(), record.device.size());
    record.path = in.text(kPathMax);
    const bool fresh = places.insert(record.place).second;
    if (!fresh || record.place >= list.next_place) {
      return damaged("place " + std::to_string(record.place) +
                     (fresh ? " was not given out" : " twice"));
    }
    list.devices.push_back(std::move(record));
  }
  if (!in.ok() || in.left() != 0) return damaged("its records do not add up");
  return list;
}

Status write_device_list(const std::string& directory, const DeviceList& list) {
  return write_durably(directory, kDeviceListFile, encode_device_list(list));
}

StatusOr<DeviceList> read_device_list(const std::string& directory) {
  TERRACE_ASSIGN_OR_RETURN(const std::string bytes,
                           read_whole(directory + "/" + kDeviceListFile, kFileMax));
  return decode_device_list(bytes);
}
}  // namespace terrace
