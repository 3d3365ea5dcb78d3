// storage/shared_object.h - one object in the shared tier: written whole, opened, checked, read.
// The blocking half: for a thread of storage/shared_calls.h. Nothing here touches a store.
//
// A shared copy has the bytes of a local one, with a header of its own: its generation is the
// name's, its namespace number is 0, and the namespace's digest stands in the optional fields.
#pragma once
#include <sys/uio.h>

#include <cstdint>
#include <optional>
#include <span>

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
}  // namespace terrace
