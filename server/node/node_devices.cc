#include "server/node/node_devices.h"

#include <filesystem>
#include <utility>

#include "base/limits.h"
#include "base/log.h"

namespace terrace {
namespace {

/// A data directory without a size has one already.
Status check_size(const StoreConfig& store) {
  if (store.nvme_bytes > 0) return ok_status();
  std::error_code failed;
  for (const std::string& path : store.data_paths()) {
    if (std::filesystem::exists(path, failed)) return ok_status();
  }
  return error(StatusCode::kInvalidArgument,
               "data-directory " + store.data_directory +
                   " holds no data file yet: say how large it is to be with --nvme-bytes");
}

void log_fill(uint64_t done, uint64_t total) {
  if (done % kGiB == 0 || done == total) {
    spdlog::info("event=zeroing_data_file done_bytes={} total_bytes={}", done, total);
  }
}
}  // namespace

StatusOr<std::unique_ptr<NodeDevices>> NodeDevices::open(const StoreConfig& config,
                                                         const Uuid& uuid, Loop* loop) {
  TERRACE_RETURN_IF_ERROR(check_size(config));
  DeviceFilesOptions options;
  options.directory = config.data_directory;
  options.paths = config.data_paths();
  options.named = !config.data_file.empty();
  std::error_code failed;
  options.index_there = std::filesystem::exists(config.metadata_path(), failed);
  options.bytes = config.nvme_bytes;
  options.format_block_device = config.format_block_device;
  options.forget_missing = config.forget_missing_devices;
  options.progress = log_fill;
  TERRACE_ASSIGN_OR_RETURN(std::vector<DeviceFile> files, open_device_files(options, uuid));
  DeviceOptions device_options;
  device_options.reads_in_flight_max = config.device_reads_in_flight_max;
  device_options.writes_in_flight_max = config.device_writes_in_flight_max;
  device_options.io_timeout = config.device_timeout;
  auto out = std::make_unique<NodeDevices>();
  for (DeviceFile& file : files) {
    One one;
    if (file.file != nullptr) {
      if (!file.file->direct()) spdlog::warn("event=no_direct_io path={}", file.path);
      one.device = std::make_unique<UringDevice>(file.file.get(), loop, device_options);
    }
    one.file = std::move(file);
    out->devices_.push_back(std::move(one));
  }
  return out;
}

std::vector<NvmeDevice> NodeDevices::all() const {
  std::vector<NvmeDevice> out;
  for (const One& one : devices_) out.push_back({one.device.get(), one.file.place, one.file.path});
  return out;
}
}  // namespace terrace
