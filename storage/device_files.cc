#include "storage/device_files.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace terrace {
namespace {

/// Trouble of one device that the others need not share.
bool of_the_device(StatusCode code) {
  return code == StatusCode::kDataLoss || code == StatusCode::kUnavailable ||
         code == StatusCode::kInternal || code == StatusCode::kDeadlineExceeded;
}

class Opening {
 public:
  Opening(const DeviceFilesOptions& options, const Uuid& directory)
      : options_(options), directory_(directory) {}
  StatusOr<std::vector<DeviceFile>> run();

 private:
  Status check_paths() const;
  Status read_list();
  /// `make`: it is created, or a block device taken over; without, kNotFound when it would be.
  Status open(const std::string& path, bool make);
  /// Without a list only what is there says which devices there were.
  Status check_first() const;
  /// The record of a device that was at this path and that no path leads to.
  const DeviceRecord* lost_at(const std::string& path) const;
  bool has(uint16_t place) const;
  Status add_missing();
  Status remember();

  const DeviceFilesOptions& options_;
  const Uuid& directory_;
  DeviceList list_;
  bool listed_ = false;  // the directory has a list
  std::vector<DeviceFile> found_;
};

Status Opening::check_paths() const {
  if (options_.paths.empty() || options_.paths.size() > kNvmeDevicesMax) {
    return error(StatusCode::kInvalidArgument,
                 "data_file: " + std::to_string(options_.paths.size()) + " paths; 1 to " +
                     std::to_string(kNvmeDevicesMax));
  }
  std::vector<std::string> sorted = options_.paths;
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice == sorted.end()) return ok_status();
  return error(StatusCode::kInvalidArgument, "data_file: " + *twice + " is named twice");
}

/// What the directory knows, and the places that identity blocks of ours have.
Status Opening::read_list() {
  StatusOr<DeviceList> list = read_device_list(options_.directory);
  listed_ = list.ok();
  if (!list.ok() && list.status().code() != StatusCode::kNotFound) return list.status();
  if (list.ok()) list_ = std::move(*list);
  // Rows of the index name the device that there was, at place 0: another one must not be taken for
  // it.
  if (!listed_ && options_.index_there) list_.next_place = 1;
  for (const std::string& path : options_.paths) {
    const StatusOr<DataFileIdentity> identity = read_identity(path);
    if (!identity.ok() || identity->directory != directory_) continue;
    list_.next_place = std::max(list_.next_place, static_cast<uint16_t>(identity->place + 1));
  }
  return ok_status();
}

bool Opening::has(uint16_t place) const {
  return std::any_of(found_.begin(), found_.end(),
                     [&](const DeviceFile& each) { return each.place == place; });
}

const DeviceRecord* Opening::lost_at(const std::string& path) const {
  for (const DeviceRecord& record : list_.devices) {
    if (record.path == path && !has(record.place)) return &record;
  }
  return nullptr;
}

Status Opening::open(const std::string& path, bool make) {
  DataFile::Options data;
  data.path = path;
  data.bytes = options_.bytes;
  data.make = make;
  data.format_block_device = options_.format_block_device;
  data.progress = options_.progress;
  if (make && list_.next_place > DataFileIdentity::kPlaceMax) {
    return error(StatusCode::kResourceExhausted,
                 path + ": the data directory has had 255 devices, as many as it can name");
  }
  data.place = make ? list_.next_place : uint16_t{0};
  StatusOr<std::unique_ptr<DataFile>> file = DataFile::open(data, directory_);
  if (!file.ok()) {
    const bool guess = !listed_ && !options_.forget_missing;  // who it is, nobody could say
    if (!of_the_device(file.status().code()) || options_.paths.size() == 1 || guess) {
      return file.status();
    }
    spdlog::error("event=device_not_opened path={} error=\"{}\"", path, file.status().to_string());
    return ok_status();  // missing, then, if it was ours
  }
  const DataFileIdentity& identity = (*file)->identity();
  const auto record =
      std::find_if(list_.devices.begin(), list_.devices.end(),
                   [&](const DeviceRecord& each) { return each.place == identity.place; });
  const bool other = record != list_.devices.end() && record->device != identity.device;
  if (other || has(identity.place)) {
    return error(StatusCode::kFailedPrecondition,
                 path + ": says that it is device " + std::to_string(identity.place) +
                     " of this data directory, and another one is: remove it");
  }
  list_.next_place = std::max(list_.next_place, static_cast<uint16_t>(identity.place + 1));
  found_.push_back({identity.place, path, std::move(*file)});
  return ok_status();
}

Status Opening::add_missing() {
  for (const DeviceRecord& record : list_.devices) {
    if (has(record.place)) continue;
    if (options_.forget_missing) {
      spdlog::warn("event=device_forgotten place={} path={}", record.place, record.path);
      continue;
    }
    spdlog::error(
        "event=device_missing place={} path={}: its objects are misses until it is back; "
        "forget_missing_devices gives them up",
        record.place, record.path);
    found_.push_back({record.place, record.path, nullptr});
  }
  if (found_.size() > kNvmeDevicesMax) {
    return error(StatusCode::kInvalidArgument,
                 std::to_string(found_.size()) + " devices, missing ones included; at most " +
                     std::to_string(kNvmeDevicesMax) + ": set forget_missing_devices");
  }
  const bool any = std::any_of(found_.begin(), found_.end(),
                               [](const DeviceFile& each) { return each.file != nullptr; });
  if (any) return ok_status();
  return error(StatusCode::kUnavailable,
               "none of the devices of the nvme tier is there (" + options_.paths[0] +
                   ", ...): attach them, or set forget_missing_devices to begin anew");
}

/// Before anything is stored on a device that is new.
Status Opening::remember() {
  const bool only = found_.size() == 1 && found_[0].place == 0;
  if (!listed_ && !options_.named && only) return ok_status();
  DeviceList now;
  now.next_place = list_.next_place;
  for (const DeviceFile& each : found_) {
    DeviceRecord record{each.place, {}, each.path};
    if (each.file != nullptr) {
      record.device = each.file->identity().device;
    } else {
      for (const DeviceRecord& known : list_.devices) {
        if (known.place == each.place) record = known;
      }
    }
    now.devices.push_back(std::move(record));
  }
  if (listed_ && now == list_) return ok_status();
  return write_device_list(options_.directory, now);
}

Status Opening::check_first() const {
  if (listed_ || !options_.index_there || !options_.named || options_.forget_missing || has(0)) {
    return ok_status();
  }
  return error(StatusCode::kUnavailable,
               options_.directory + " has an index, and the device with its objects is not at " +
                   options_.paths[0] + (options_.paths.size() > 1 ? ", ..." : "") +
                   ": mount or attach it, or set forget_missing_devices to begin anew");
}

StatusOr<std::vector<DeviceFile>> Opening::run() {
  TERRACE_RETURN_IF_ERROR(check_paths());
  TERRACE_RETURN_IF_ERROR(read_list());
  std::vector<std::string> absent;
  for (const std::string& path : options_.paths) {
    const Status opened = open(path, false);
    if (opened.code() == StatusCode::kNotFound) {
      absent.push_back(path);
    } else {
      TERRACE_RETURN_IF_ERROR(opened);
    }
  }
  TERRACE_RETURN_IF_ERROR(check_first());
  // An empty mount point must not be taken for a device that is new.
  for (const std::string& path : absent) {
    const DeviceRecord* const lost = lost_at(path);
    if (lost != nullptr && !options_.forget_missing) continue;
    TERRACE_RETURN_IF_ERROR(open(path, true));
  }
  TERRACE_RETURN_IF_ERROR(add_missing());
  std::sort(found_.begin(), found_.end(),
            [](const DeviceFile& a, const DeviceFile& b) { return a.place < b.place; });
  TERRACE_RETURN_IF_ERROR(remember());
  return std::move(found_);
}
}  // namespace

StatusOr<std::vector<DeviceFile>> open_device_files(const DeviceFilesOptions& options,
                                                    const Uuid& directory) {
  return Opening(options, directory).run();
}
}  // namespace terrace
