#include "base/status.h"

#include <cerrno>
#include <system_error>

namespace terrace {

const char* name_of(StatusCode code) {
  switch (code) {
    case StatusCode::kOk:
      return "OK";
    case StatusCode::kCancelled:
      return "CANCELLED";
    case StatusCode::kUnknown:
      return "UNKNOWN";
    case StatusCode::kInvalidArgument:
      return "INVALID_ARGUMENT";
    case StatusCode::kDeadlineExceeded:
      return "DEADLINE_EXCEEDED";
    case StatusCode::kNotFound:
      return "NOT_FOUND";
    case StatusCode::kAlreadyExists:
      return "ALREADY_EXISTS";
    case StatusCode::kPermissionDenied:
      return "PERMISSION_DENIED";
    case StatusCode::kResourceExhausted:
      return "RESOURCE_EXHAUSTED";
    case StatusCode::kFailedPrecondition:
      return "FAILED_PRECONDITION";
    case StatusCode::kAborted:
      return "ABORTED";
    case StatusCode::kOutOfRange:
      return "OUT_OF_RANGE";
    case StatusCode::kUnimplemented:
      return "UNIMPLEMENTED";
    case StatusCode::kInternal:
      return "INTERNAL";
    case StatusCode::kUnavailable:
      return "UNAVAILABLE";
    case StatusCode::kDataLoss:
      return "DATA_LOSS";
    case StatusCode::kUnauthenticated:
      return "UNAUTHENTICATED";
  }
  return "UNKNOWN";
}

StatusCode status_code_of(int32_t number) {
  if (number < 0 || number > static_cast<int32_t>(StatusCode::kUnauthenticated)) {
    return StatusCode::kUnknown;
  }
  return static_cast<StatusCode>(number);
}

const std::string& Status::message() const {
  static const std::string empty;
  return message_ ? *message_ : empty;
}

std::string Status::to_string() const {
  std::string text = name_of(code_);
  if (message_ && !message_->empty()) text += ": " + *message_;
  return text;
}

Status errno_status(int error_number, const std::string& what) {
  StatusCode code = StatusCode::kInternal;
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      code = StatusCode::kResourceExhausted;
      break;
    case EIO:
    case EBADMSG:
      code = StatusCode::kDataLoss;
      break;
    case EACCES:
    case EPERM:
    case EROFS:
      code = StatusCode::kPermissionDenied;
      break;
    case ENOENT:
      code = StatusCode::kNotFound;
      break;
    case EINVAL:
      code = StatusCode::kInvalidArgument;
      break;
    case ECANCELED:
      code = StatusCode::kCancelled;
      break;
    case ETIMEDOUT:
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case ENOTCONN:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENODEV:
    case ENXIO:
      code = StatusCode::kUnavailable;
      break;
    case EADDRINUSE:
      code = StatusCode::kFailedPrecondition;
      break;
    default:
      break;
  }
  return {code, what + ": " + std::generic_category().message(error_number)};
}
}  // namespace terrace
