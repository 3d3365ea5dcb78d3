#include "storage/fsck_disks.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "storage/object_format.h"
#include "storage/store_config.h"

namespace terrace {
namespace {
Status damaged(const std::string& what) {
  return error(StatusCode::kDataLoss, what);
}
}  // namespace

Status read_all(const FsckDisk& disk, uint64_t offset, std::span<std::byte> into) {
  while (!into.empty()) {
    const ssize_t got =
        ::pread(disk.fd.get(), into.data(), into.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_status(errno, "read at " + std::to_string(offset));
    if (got == 0) return damaged(disk.path + " ends at " + std::to_string(offset));
    into = into.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return ok_status();
}

Status FsckDisks::open(const std::string& directory, const std::string& data_file,
                       const Uuid& uuid) {
  StoreConfig config;
  config.data_directory = directory;
  config.data_file = data_file;
  const StatusOr<DeviceList> list = read_device_list(directory);
  if (!list.ok() && list.status().code() != StatusCode::kNotFound) return list.status();
  std::vector<std::string> paths = config.data_paths();
  if (data_file.empty() && list.ok()) {
    paths.clear();
    for (const DeviceRecord& record : list->devices) paths.push_back(record.path);
  }
  for (const std::string& path : paths) {
    const Status opened = open(path, uuid);
    if (!opened.ok() && (!list.ok() || opened.code() != StatusCode::kNotFound)) return opened;
  }
  if (!list.ok()) return ok_status();
  for (const DeviceRecord& record : list->devices) {
    if (!disks_.contains(record.place)) missing_.push_back(record);
  }
  return ok_status();
}

Status FsckDisks::open(const std::string& path, const Uuid& uuid) {
  FsckDisk disk;
  disk.path = path;
  disk.fd.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!disk.fd) {
    if (errno == ENOENT) return error(StatusCode::kNotFound, "no data file at " + path);
    return errno_status(errno, "open " + path);
  }
  std::array<std::byte, DataFileIdentity::kBytes> block;
  TERRACE_RETURN_IF_ERROR(read_all(disk, 0, block));
  TERRACE_ASSIGN_OR_RETURN(const DataFileIdentity identity, decode_identity(block));
  if (identity.directory != uuid) return damaged(path + " belongs to another data directory");
  if (identity.bytes < 2 * NvmeMap::kReservedBytes || identity.bytes > ExtentMap::kBytesMax) {
    return damaged(path + " says that it has " + std::to_string(identity.bytes) + " bytes");
  }
  if (const auto other = disks_.find(identity.place); other != disks_.end()) {
    return damaged(path + " and " + other->second.path + " say that they are one device");
  }
  disk.bytes = identity.bytes;
  disk.map = std::make_unique<NvmeMap>(identity.bytes, identity.place);
  disks_.emplace(identity.place, std::move(disk));
  return ok_status();
}

FsckDisk* FsckDisks::of(std::span<const Extent> extents) {
  if (extents.empty()) return nullptr;
  const auto it = disks_.find(extents[0].device);
  return it == disks_.end() ? nullptr : &it->second;
}

bool FsckDisks::missing(std::span<const Extent> extents) const {
  return !extents.empty() &&
         std::any_of(missing_.begin(), missing_.end(),
                     [&](const DeviceRecord& r) { return r.place == extents[0].device; });
}

Status FsckDisks::read(std::span<const Extent> extents, uint64_t offset,
                       std::span<std::byte> into) {
  const FsckDisk* const disk = of(extents);
  if (disk == nullptr) return damaged("its device is not there");
  for (const Extent& extent : slice(extents, offset, into.size())) {
    if (extent.device != extents[0].device) return damaged("extents on two devices");
    TERRACE_RETURN_IF_ERROR(read_all(*disk, extent.offset(), into.first(extent.bytes())));
    into = into.subspan(extent.bytes());
  }
  return into.empty() ? ok_status() : damaged("the extents are too short");
}
}  // namespace terrace
