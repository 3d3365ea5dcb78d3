// tools/reference_engine/bounded_json.h - JSON out of files that may be hostile: no exceptions, no
// depth. The callers bound its length. Pure.
#pragma once
#include <nlohmann/json.hpp>
#include <string_view>

namespace terrace {

/// Depth that the files of a model need: values that lie deeper are dropped.
inline constexpr int kJsonDepthMax = 8;

/// The value of `text`; a discarded value, which is of no type, when it is no JSON.
inline nlohmann::json parse_bounded_json(std::string_view text) {
  const auto keep = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    return depth <= kJsonDepthMax;
  };
  return nlohmann::json::parse(text.begin(), text.end(), keep, /*allow_exceptions=*/false);
}
}  // namespace terrace
