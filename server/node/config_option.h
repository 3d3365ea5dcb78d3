// server/node/config_option.h - how one option of the configuration is spelled, set and shown.
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>

#include "base/status.h"

namespace terrace {

/// One option: how it is spelled, what it means, how text sets it and how it is shown.
struct Option {
  std::string name;  // "dram-bytes" on the command line, "dram_bytes" in the file
  std::string what;
  std::function<Status(const std::string&)> set;
  std::function<std::string()> show;  // as a TOML value
  bool flag = false;                  // true without a value
};

/// NAME="TEXT": WANTED, as kInvalidArgument.
Status bad_value(const std::string& name, const std::string& text, const std::string& wanted);
/// "4GiB", "512MiB", "64KiB" or a plain number. kInvalidArgument.
StatusOr<uint64_t> parse_number(const std::string& name, const std::string& text);

// Each sets and shows `target`, which outlives it.
template <class T>
Option number(const std::string& name, const std::string& what, T* target) {
  const auto set = [name, target](const std::string& text) -> Status {
    TERRACE_ASSIGN_OR_RETURN(const uint64_t value, parse_number(name, text));
    if (value > std::numeric_limits<T>::max()) {
      return bad_value(name, text, "at most " + std::to_string(std::numeric_limits<T>::max()));
    }
    *target = static_cast<T>(value);
    return ok_status();
  };
  return {name, what, set, [target] { return std::to_string(*target); }};
}

template <class Duration>
Option duration(const std::string& name, const std::string& what, Duration* target) {
  const auto set = [name, target](const std::string& text) -> Status {
    TERRACE_ASSIGN_OR_RETURN(const uint64_t value, parse_number(name, text));
    if (value > 1'000'000'000) return bad_value(name, text, "at most 1000000000");
    *target = Duration(static_cast<int64_t>(value));
    return ok_status();
  };
  return {name, what, set, [target] { return std::to_string(target->count()); }};
}

Option text(const std::string& name, const std::string& what, std::string* target);
Option boolean(const std::string& name, const std::string& what, bool* target);
}  // namespace terrace
