// tools/cli/output.h - what people read: sizes, durations, tables, one JSON object, a progress bar.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"

namespace terrace {
using Json = nlohmann::ordered_json;

/// "4 KiB", "1.5 MiB".
std::string human_bytes(uint64_t bytes);
/// "180 us", "1.25 ms", "3.1 s", "2 h 5 min".
std::string human_duration(Nanos duration);
/// "1,234,567".
std::string human_count(uint64_t count);
/// With `decimals` digits after the point.
std::string fixed(double value, int decimals);
inline double microseconds_of(Nanos duration) {
  return static_cast<double>(duration.count()) / 1e3;
}
inline double seconds_of(Nanos duration) {
  return static_cast<double>(duration.count()) / 1e9;
}

/// Columns as wide as their widest cell; the first one is flushed left, the others right unless
/// `all_left`. Every row has as many cells as `header`.
class Table {
 public:
  explicit Table(std::vector<std::string> header, bool all_left = false)
      : rows_{std::move(header)}, all_left_(all_left) {}
  void add(std::vector<std::string> row);
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
  bool all_left_;
};

/// One object on stdout, bytes that are no UTF-8 replaced.
void print_json(const Json& object);
/// {"code": "NOT_FOUND", "message": ...}
Json json_of(const Status& status);

/// A bar on stderr while it lives, when stderr is a terminal and `wanted`; else nothing at all.
/// Draws at most ten times a second. A total of 0 is not known: only the note is shown.
class Progress {
 public:
  Progress(std::string label, uint64_t total, bool wanted);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();
  /// `note` stands behind the bar.
  void show(uint64_t done, const std::string& note = {});

 private:
  std::string label_;
  uint64_t total_;
  bool visible_;
  SystemClock clock_;
  Nanos next_{0};
};
}  // namespace terrace
