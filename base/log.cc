#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

namespace terrace {

Status set_up_logging(const std::string& program, const std::string& level) {
  const auto parsed = spdlog::level::from_str(level);
  if (parsed == spdlog::level::off && level != "off") {
    return error(StatusCode::kInvalidArgument,
                 "log level \"" + level + "\": use debug, info, warn, error or off");
  }
  auto logger = spdlog::get(program);
  if (!logger) logger = spdlog::stderr_color_mt(program);
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z level=%l program=%n %v");
  logger->set_level(parsed);
  spdlog::set_default_logger(logger);
  return ok_status();
}
}  // namespace terrace
