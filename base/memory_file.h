// base/memory_file.h - memory that has a descriptor, so that other processes can map it.
// Thread-safe.
#pragma once
#include <cstdint>

#include "base/handle.h"
#include "base/status.h"

namespace terrace {

/// A new memory file of `bytes` zeros: cannot shrink, grow or lose its seals, and nobody but our
/// own user can open it again for writing. `huge_pages`: of the machine's reserved ones. Errors:
/// errno's (kResourceExhausted for memory and descriptors), with the name and the size.
StatusOr<Fd> make_memory_file(const char* name, uint64_t bytes, bool huge_pages = false);
/// A descriptor of the same file that cannot write; a duplicate would share our write access.
/// kUnavailable: no /proc; else errno's.
StatusOr<Fd> reopen_read_only(const Fd& file);
}  // namespace terrace
