// base/status.h - the one error vocabulary, from the disk to the engine.
//
// Our own type rather than absl::Status because it is part of the SDK's surface, and engines load
// their own absl. The codes have gRPC's numbers, so the control plane maps them one to one; they
// also travel on the wire and in per-key arrays (`terrace_code`). Choose a code by what the caller
// should do next. Values, immutable once made: safe to copy between threads.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/check.h"

namespace terrace {

/// Stable numbers: a format of the wire. Never renumber.
enum class StatusCode : int32_t {
  kOk = 0,
  kCancelled = 1,           // the caller asked for it
  kUnknown = 2,             // a peer sent a code that this build does not know
  kInvalidArgument = 3,     // the request can never work: fix the caller
  kDeadlineExceeded = 4,    // late: treat as a miss
  kNotFound = 5,            // a miss: not logged
  kAlreadyExists = 6,       // the bytes are there already: a success for a put
  kPermissionDenied = 7,    // this identity may not
  kResourceExhausted = 8,   // overload, quota or space: shed load, a later try may work
  kFailedPrecondition = 9,  // do not retry until something is fixed (wrong fingerprint, in use)
  kAborted = 10,            // a lease was lost: look up again
  kOutOfRange = 11,         // an offset or length lies outside the object
  kUnimplemented = 12,      // known, and not there
  kInternal = 13,           // a bug of ours
  kUnavailable = 14,        // the peer or device is gone: retry elsewhere
  kDataLoss = 15,           // a checksum failed; the bytes were quarantined
  kUnauthenticated = 16,    // who are you?
};

/// "DATA_LOSS" and so on; "UNKNOWN" for a number outside the enum.
const char* name_of(StatusCode code);
/// The code for a number off the wire; kUnknown when it is none of ours.
StatusCode status_code_of(int32_t number);

/// A code and, unless it is a bare code, a sentence that names the object, the limit and the cure.
/// A bare code allocates nothing.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code) : code_(code) {}  // NOLINT(google-explicit-constructor)
  Status(StatusCode code, std::string message)
      : code_(code),
        message_(code == StatusCode::kOk
                     ? nullptr
                     : std::make_shared<const std::string>(std::move(message))) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const;
  /// "DATA_LOSS: segment 7 @ 4096: bad crc".
  std::string to_string() const;
  /// Keeps the first error: takes `other` only while this is OK.
  void update(const Status& other) {
    if (ok()) *this = other;
  }
  friend bool operator==(const Status& a, const Status& b) {
    return a.code_ == b.code_ && a.message() == b.message();
  }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::shared_ptr<const std::string> message_;
};

inline Status ok_status() {
  return {};
}
inline Status error(StatusCode code, std::string what) {
  return {code, std::move(what)};
}
/// The status for a failed system call: `what` names the object, e.g. "open /data/terrace.dat".
/// ENOSPC is kResourceExhausted, EIO kDataLoss, EACCES kPermissionDenied, ECANCELED kCancelled,
/// connection errors kUnavailable, EINVAL kInvalidArgument; all else kInternal.
Status errno_status(int error_number, const std::string& what);

/// A value or the reason why there is none. Read it like a pointer, after ok().
template <class T>
class [[nodiscard]] StatusOr {
 public:
  StatusOr(Status status) : status_(std::move(status)) {  // NOLINT(google-explicit-constructor)
    TERRACE_CHECK(!status_.ok());
  }
  StatusOr(StatusCode code) : StatusOr(Status(code)) {}  // NOLINT(google-explicit-constructor)
  StatusOr(T value) : value_(std::move(value)) {}        // NOLINT(google-explicit-constructor)

  bool ok() const { return value_.has_value(); }
  const Status& status() const& { return status_; }
  Status status() && { return std::move(status_); }
  T& operator*() & { return get(); }
  const T& operator*() const& {
    TERRACE_CHECK(value_.has_value());
    return *value_;
  }
  T&& operator*() && { return std::move(get()); }
  T* operator->() { return &get(); }
  const T* operator->() const { return &**this; }

 private:
  T& get() {
    TERRACE_CHECK(value_.has_value());
    return *value_;
  }
  Status status_;
  std::optional<T> value_;
};
}  // namespace terrace

#define TERRACE_RETURN_IF_ERROR(expr)                                            \
  do {                                                                           \
    if (::terrace::Status terrace_s = (expr); !terrace_s.ok()) return terrace_s; \
  } while (false)
#define TERRACE_ASSIGN_OR_RETURN(lhs, expr) \
  TERRACE_ASSIGN_OR_RETURN_IMPL(TERRACE_CAT(terrace_r, __LINE__), lhs, expr)
#define TERRACE_ASSIGN_OR_RETURN_IMPL(r, lhs, expr) \
  auto r = (expr);                                  \
  if (!r.ok()) return std::move(r).status();        \
  lhs = *std::move(r)
#define TERRACE_CAT(a, b) TERRACE_CAT_IMPL(a, b)
#define TERRACE_CAT_IMPL(a, b) a##b
