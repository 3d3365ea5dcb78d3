// storage/shared_medium.h - the seam of the shared tier: a place that many nodes read and write at
// once. It knows names and bytes, not chunks.
//
// Implementations: SharedDirectory (a POSIX file system), S3Medium (a bucket). Each passes
// tests/contract/shared_medium_contract. All calls block, from any thread, several at once, and may
// take as long as the medium likes: who calls has deadlines (storage/shared_calls.h).
#pragma once
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"

namespace terrace {

struct S3Metrics;

/// An object opened for reading: its bytes, whatever becomes of its name; never another one's.
class SharedBytes {
 public:
  virtual ~SharedBytes() = default;
  virtual uint64_t size() const = 0;
  /// As SharedMedium::Facts::age, when it was opened. nullopt: this medium did not say.
  virtual std::optional<Nanos> age() const { return std::nullopt; }
  /// All of `into`, or an error. kOutOfRange: past the end, the object is too short. kUnavailable:
  /// the medium failed. kNotFound: the name is gone or another's, and this medium kept nothing.
  virtual Status read(uint64_t offset, std::span<std::byte> into) = 0;
  /// The same into memory that lies in pieces, for much at once.
  virtual Status read_pieces(uint64_t offset, std::span<const iovec> into);
  /// What this machine remembers of the bytes is dropped, where it remembers any and can drop it:
  /// the next read is of the medium itself.
  virtual void forget() {}
};

/// Names are relative paths of letters, digits, '.', '-' and '_', at most four deep; folders come
/// into being with what is put in them. Errors of every call: kUnavailable (the medium failed, try
/// later), kDeadlineExceeded (it does not answer; what was asked for may still come about),
/// kResourceExhausted (no space, no quota), kPermissionDenied, kFailedPrecondition (it is not what
/// the configuration says).
class SharedMedium {
 public:
  struct Facts {
    uint64_t bytes = 0;
    Nanos age{0};  // since it was published, created or touched, by the medium's own clock; some
                   // know it to a second
  };
  struct Listed {
    std::string name;
    std::optional<Facts> facts;  // when the listing says them
  };
  virtual ~SharedMedium() = default;
  /// For the start: whether it is what the configuration says. kNotFound, kInvalidArgument,
  /// kFailedPrecondition, kPermissionDenied: fix that.
  virtual Status check() = 0;
  /// Whether it can be used now: writes, reads and removes something small.
  virtual Status probe() = 0;
  /// Makes `pieces` the object `name`, whole or not at all, whoever dies meanwhile; when done OK it
  /// survives a power cut of everybody. What had the name is replaced.
  virtual Status publish(const std::string& name, std::span<const iovec> pieces) = 0;
  /// Creates a small object; of several who try, one succeeds. Others: kAlreadyExists. It has its
  /// bytes at once or shortly after (a reader may see it empty).
  virtual Status create(const std::string& name, std::string_view bytes) = 0;
  /// kNotFound.
  virtual StatusOr<std::unique_ptr<SharedBytes>> open(const std::string& name) = 0;
  virtual StatusOr<Facts> facts(const std::string& name) = 0;
  /// Its age becomes 0. kNotFound.
  virtual Status touch(const std::string& name) = 0;
  /// Exactly this object gets another name; what had that one is replaced. kNotFound.
  virtual Status move(const std::string& from, const std::string& to) = 0;
  /// What was moved out of the folder stays so after a power cut of everybody.
  virtual Status settle(const std::string&) { return ok_status(); }
  /// kNotFound.
  virtual Status remove(const std::string& name) = 0;
  /// What lies in a folder, objects and folders alike, in no order, at most `max`. A folder that
  /// does not exist is empty. Fewer than `max` are all; kResourceExhausted: a medium that cannot
  /// say so many in one call.
  virtual StatusOr<std::vector<std::string>> list(const std::string& folder, size_t max) = 0;
  /// The same with what the listing says of each anyway.
  virtual StatusOr<std::vector<Listed>> list_facts(const std::string& folder, size_t max);
  /// Whether touch() and move() copy the bytes, and so take as long as these are many.
  virtual bool copies() const { return false; }
  /// What it asked of a server; null: it has none, or does not count.
  virtual const S3Metrics* requests() const { return nullptr; }
};
}  // namespace terrace
