// storage/data_file_io.h - blocking steps that making and resizing a data file share. Any thread.
// Not seen outside data_file*.cc. Errors: the system call's, naming `path` or `what`.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/status.h"
#include "storage/data_file.h"

namespace terrace {

Status write_all(int fd, std::span<const std::byte> bytes, uint64_t offset,
                 const std::string& what);
/// Zeroes in [first, end), a MiB at a time; `step` after each is told where it is, and stops it
/// when it says false: kCancelled.
Status write_zeroes(int fd, uint64_t first, uint64_t end, const std::string& path,
                    const std::function<bool(uint64_t done)>& step);
/// Durable when it is OK.
Status write_identity(int fd, const DataFileIdentity& identity, const std::string& path);
/// Bytes of a regular file or block device.
StatusOr<uint64_t> size_of(int fd, const std::string& path, bool* block_device);
}  // namespace terrace
