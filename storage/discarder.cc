#include "storage/discarder.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <string>
#include <utility>

#include "base/status.h"

namespace terrace {
namespace {

Status discard_now(int fd, uint64_t offset, uint64_t bytes) {
  uint64_t range[2] = {offset, bytes};
  if (::ioctl(fd, BLKDISCARD, range) == 0) return ok_status();
  const int failed = errno;
  if (failed == EOPNOTSUPP || failed == ENOTTY) {
    return error(StatusCode::kFailedPrecondition, "the device has no discard (TRIM)");
  }
  return errno_status(failed,
                      "discard of " + std::to_string(bytes) + " bytes @ " + std::to_string(offset));
}
}  // namespace

Discarder::~Discarder() {
  if (workers_ != nullptr && !workers_->idle()) workers_->give_up();
}

void Discarder::discard(uint64_t offset, uint64_t bytes, Op* op) {
  if (workers_ == nullptr) workers_ = std::make_unique<Workers>(loop_, 1);
  const auto result = std::make_shared<Status>();
  workers_->add(
      [fd = fd_, offset, bytes, result] { *result = discard_now(fd, offset, bytes); },
      [result, op](const Status& began) { op->done(began.ok() ? std::move(*result) : began); });
}
}  // namespace terrace
