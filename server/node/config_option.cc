#include "server/node/config_option.h"

#include <charconv>
#include <map>

#include "base/limits.h"

namespace terrace {

Status bad_value(const std::string& name, const std::string& text, const std::string& wanted) {
  return error(StatusCode::kInvalidArgument, name + "=\"" + text + "\": " + wanted);
}

StatusOr<uint64_t> parse_number(const std::string& name, const std::string& text) {
  uint64_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string unit(end, text.data() + text.size());
  static const std::map<std::string, uint64_t> kUnits = {
      {"", 1}, {"KiB", kKiB}, {"MiB", kMiB}, {"GiB", kGiB}, {"TiB", 1024 * kGiB}};
  const auto found = kUnits.find(unit);
  if (failed != std::errc() || found == kUnits.end() || value > (~uint64_t{0}) / found->second) {
    return bad_value(name, text, "a number, with KiB, MiB, GiB or TiB if it counts bytes");
  }
  return value * found->second;
}

Option text(const std::string& name, const std::string& what, std::string* target) {
  const auto set = [target](const std::string& value) {
    *target = value;
    return ok_status();
  };
  return {name, what, set, [target] { return '"' + *target + '"'; }};
}

Option boolean(const std::string& name, const std::string& what, bool* target) {
  const auto set = [name, target](const std::string& value) -> Status {
    if (value != "true" && value != "false") return bad_value(name, value, "true or false");
    *target = value == "true";
    return ok_status();
  };
  return {name, what, set, [target] { return *target ? "true" : "false"; }, true};
}
}  // namespace terrace
