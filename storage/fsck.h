// storage/fsck.h - checks a data directory that no node has open: identity, every row, every
// header, every unit; and can make the durable index anew from the headers. Blocking, for `terrace
// fsck`.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"

namespace terrace {

struct FsckOptions {
  std::string data_directory;
  std::string data_file;    // as the node's: comma between several; empty: in the data directory
  bool check_units = true;  // false: headers only
  bool rebuild = false;     // replace the durable index by what the headers say
  /// Called now and then with bytes looked at and bytes to look at.
  std::function<void(uint64_t done, uint64_t total)> progress;
};

struct FsckReport {
  uint64_t device_bytes = 0;
  uint64_t rows = 0;
  uint64_t objects_good = 0;
  uint64_t bytes_checked = 0;
  // What is wrong, each object counted once, at the first thing found.
  uint64_t rows_undecodable = 0;
  uint64_t rows_out_of_range = 0;     // extents outside the device, or not where any could lie
  uint64_t rows_missing_device = 0;   // not looked at: their device is not there; no damage
  uint64_t rows_overlapping = 0;      // two objects claim the same space
  uint64_t headers_bad = 0;           // checksum, or another object's
  uint64_t units_bad = 0;             // objects with a unit that fails its checksum
  bool index_unreadable = false;      // only with `rebuild`, which made a new one
  uint64_t rebuilt = 0;               // rows written by a rebuild
  std::vector<std::string> findings;  // the first kFindingsMax of them, as sentences
  static constexpr size_t kFindingsMax = 100;
  bool clean() const {
    return !index_unreadable &&
           rows_undecodable + rows_out_of_range + rows_overlapping + headers_bad + units_bad == 0;
  }
};

/// kUnavailable: a node has the directory. kNotFound: no data file there. kDataLoss: the identity
/// block or the metadata store is unreadable (the store: try `rebuild`). What is found wrong with
/// objects is in the report, with an OK status.
StatusOr<FsckReport> fsck(const FsckOptions& options);
}  // namespace terrace
