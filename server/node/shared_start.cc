#include "server/node/shared_start.h"

#include <future>
#include <string>
#include <thread>
#include <utility>

#include "base/log.h"
#include "storage/file_calls.h"
#include "storage/s3_medium.h"
#include "storage/shared_directory.h"

namespace terrace {
namespace {

/// Trouble that may pass.
bool passes(const Status& status) {
  return status.code() == StatusCode::kUnavailable ||
         status.code() == StatusCode::kDeadlineExceeded ||
         status.code() == StatusCode::kResourceExhausted;
}

StatusOr<std::shared_ptr<SharedMedium>> make_medium(const StoreConfig& config, const Clock* clock) {
  if (!config.shared_s3.used()) {
    return std::shared_ptr<SharedMedium>(
        SharedDirectory::make(config.shared_directory, std::make_unique<FileCalls>(), clock));
  }
  S3Options options;
  options.config = config.shared_s3;
  options.timeout = config.shared_timeout;
  return open_s3_medium(options, clock);
}
}  // namespace

StatusOr<std::shared_ptr<SharedMedium>> open_shared_medium(const StoreConfig& config,
                                                           const Clock* clock) {
  const char* const kind = config.shared_s3.used() ? "shared_s3" : "shared_directory";
  const std::string& where =
      config.shared_s3.used() ? config.shared_s3.url : config.shared_directory;
  TERRACE_ASSIGN_OR_RETURN(const std::shared_ptr<SharedMedium> medium, make_medium(config, clock));
  // On a thread of its own: what hangs is the tier, not the start of a node that could serve the
  // others.
  auto answer = std::make_shared<std::promise<std::pair<Status, Status>>>();
  std::future<std::pair<Status, Status>> answered = answer->get_future();
  std::thread([medium, answer] {
    Status right = medium->check();
    Status usable = right.ok() ? medium->probe() : right;
    answer->set_value({std::move(right), std::move(usable)});
  }).detach();
  if (answered.wait_for(config.shared_timeout) != std::future_status::ready) {
    spdlog::warn("event={}_hangs path={}", kind, where);
    return medium;
  }
  const auto [right, usable] = answered.get();
  if (!right.ok() && !(config.shared_s3.used() && passes(right))) return right;
  // One that cannot be written to is a tier that fails, not a node that does not start.
  if (!usable.ok()) spdlog::warn("event={}_unusable error=\"{}\"", kind, usable.to_string());
  return medium;
}
}  // namespace terrace
