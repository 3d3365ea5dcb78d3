// base/log.h - structured logging: one line of key=value pairs, quiet when all is well. spdlog does
// the work; this is its only home, so that every program looks the same.
#pragma once
#include <spdlog/spdlog.h>

#include <string>

#include "base/status.h"

namespace terrace {

/// Sets level ("debug", "info", "warn", "error", "off") and the line format for this process. Logs
/// go to stderr. kInvalidArgument names the levels.
Status set_up_logging(const std::string& program, const std::string& level);
}  // namespace terrace
