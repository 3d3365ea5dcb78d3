#include "tools/cli/output.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/check.h"

namespace terrace {
namespace {
constexpr Nanos kRedrawPeriod = milliseconds(100);
constexpr size_t kBarCells = 30;
}  // namespace

std::string fixed(double value, int decimals) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", decimals, value);
  return text.data();
}

std::string human_bytes(uint64_t bytes) {
  constexpr std::array<const char*, 6> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) value /= 1024, ++unit;
  const bool whole = value == static_cast<double>(static_cast<uint64_t>(value));
  return fixed(value, whole || value >= 100 ? 0 : value >= 10 ? 1 : 2) + " " + kUnits[unit];
}

std::string human_duration(Nanos duration) {
  const auto ns = static_cast<double>(duration.count());
  if (ns < 1e6) return fixed(ns / 1e3, ns < 1e4 ? 1 : 0) + " us";
  if (ns < 1e9) return fixed(ns / 1e6, ns < 1e7 ? 2 : ns < 1e8 ? 1 : 0) + " ms";
  if (ns < 120e9) return fixed(ns / 1e9, 1) + " s";
  const int64_t minutes = duration.count() / 60'000'000'000;
  if (minutes < 60) return std::to_string(minutes) + " min";
  return std::to_string(minutes / 60) + " h " + std::to_string(minutes % 60) + " min";
}

std::string human_count(uint64_t count) {
  std::string digits = std::to_string(count);
  for (size_t at = digits.size(); at > 3;) digits.insert(at -= 3, ",");
  return digits;
}

void Table::add(std::vector<std::string> row) {
  TERRACE_CHECK(row.size() == rows_.front().size());
  rows_.push_back(std::move(row));
}

std::string Table::text() const {
  std::vector<size_t> widths(rows_.front().size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - row[i].size(), ' ');
      const bool left = i == 0 || all_left_;
      line += (i == 0 ? "" : "  ") + (left ? row[i] + padding : padding + row[i]);
    }
    line.resize(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

void print_json(const Json& object) {
  const std::string text = object.dump(2, ' ', false, Json::error_handler_t::replace);
  std::printf("%s\n", text.c_str());
}

Json json_of(const Status& status) {
  return {{"code", name_of(status.code())}, {"message", status.message()}};
}

Progress::Progress(std::string label, uint64_t total, bool wanted)
    : label_(std::move(label)), total_(total), visible_(wanted && ::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (visible_) std::fputs("\r\033[K", stderr);
}

void Progress::show(uint64_t done, const std::string& note) {
  if (!visible_ || clock_.now() < next_) return;
  next_ = clock_.now() + kRedrawPeriod;
  if (total_ == 0) {
    std::fprintf(stderr, "\r\033[K%s %s", label_.c_str(), note.c_str());
    std::fflush(stderr);
    return;
  }
  const double part = std::min(1.0, static_cast<double>(done) / static_cast<double>(total_));
  const auto cells = static_cast<size_t>(part * kBarCells);
  const std::string bar = std::string(cells, '#') + std::string(kBarCells - cells, '.');
  std::fprintf(stderr, "\r\033[K%s [%s] %3.0f %% %s", label_.c_str(), bar.c_str(), part * 100,
               note.c_str());
  std::fflush(stderr);
}
}  // namespace terrace
