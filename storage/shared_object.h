// storage/shared_object.h - one object in the shared tier: written whole, opened, checked, read.
// The blocking half: for a thread of storage/shared_calls.h. Nothing here touches a store.
//
// A shared copy has the bytes of a local one, with a header of its own: its generation is the
// name's, its namespace number is 0, and the namespace's digest stands in the optional fields.
#pragma once
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "storage/object_format.h"
#include "storage/object_hints.h"
#include "storage/shared_medium.h"
#include "storage/shared_names.h"

namespace terrace {

/// Verifies every unit of `data` (the sections, each padded to 4 KiB, one behind the other) against
/// `header` and publishes them. kDataLoss: a unit differs, nothing was written. Else the medium's.
Status publish_shared(SharedMedium* medium, const SharedName& name, const ObjectHeader& header,
                      std::span<const iovec> data);

struct SharedHeader {
  ObjectHeader header;
  uint64_t bytes = 0;        // that it takes in front of the data
  std::optional<Nanos> age;  // of the copy, as SharedBytes::age()
};
// What is found damaged is read once more before it is said so.

/// Reads the copy's header and checks it, and the length of the copy. kDataLoss: it is not what its
/// name says: truncated, damaged, or another object. kFailedPrecondition: a later build wrote it.
/// kNotFound, kUnavailable: the medium's.
StatusOr<SharedHeader> read_shared_header(SharedMedium* medium, const SharedName& name);
/// Reads all sections into `data` (as publish_shared has them) and verifies every unit. kDataLoss:
/// a unit differs, or the copy ends early. kNotFound, kUnavailable, kDeadlineExceeded.
Status load_shared(SharedMedium* medium, const SharedName& name, const SharedHeader& header,
                   std::span<const iovec> data);

/// Verifies a whole copy piece by piece, with memory for one piece, and keeps it open in between.
/// What a piece finds damaged is read once more, from the medium and not from what this machine
/// remembers of it. `medium` outlives this, and all of
/// it, the end too, is for a thread that may block.
class SharedCheck {
 public:
  SharedCheck(SharedMedium* medium, const SharedName& name) : medium_(medium), name_(name) {}
  const SharedName& name() const { return name_; }
  /// Its header, or so many bytes more; a unit of 64 KiB at least. Adds what it read to `bytes`.
  /// Errors as read_shared_header and load_shared, all of them final.
  Status step(uint64_t bytes_max, uint64_t* bytes);
  bool over() const { return file_ != nullptr && section_ == header_.header.sections.size(); }

 private:
  Status piece(uint64_t bytes_max, bool again, uint64_t* bytes);
  Status open(bool again, uint64_t* bytes);
  Status read_units(uint64_t bytes_max, uint64_t* bytes);

  SharedMedium* const medium_;
  const SharedName name_;
  std::unique_ptr<SharedBytes> file_;
  SharedHeader header_;
  std::optional<ObjectLayout> layout_;  // with the header, once that is read
  uint32_t section_ = 0;                // the next unit
  uint32_t unit_ = 0;
  std::vector<std::byte> memory_;
};
}  // namespace terrace
