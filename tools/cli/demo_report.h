// tools/cli/demo_report.h - what a demo found, and how it is said. Values.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/chunk_key.h"
#include "base/clock.h"
#include "tools/cli/output.h"

namespace terrace {

/// One question, asked cold and warm.
struct Asked {
  std::string document;
  std::string question;
  uint32_t prompt_tokens = 0;
  std::array<uint32_t, kTierCount> hit_tokens{};  // by the tier they came from
  Nanos cold{0};                                  // time to the first token, median
  Nanos warm{0};
  uint64_t bytes = 0;  // loaded and verified
  bool bit_identical = false;

  uint32_t hits() const {
    uint32_t all = 0;
    for (const uint32_t tokens : hit_tokens) all += tokens;
    return all;
  }
};

struct DemoCheck {
  std::string name;
  bool held = false;
  std::string detail;
};

struct DemoReport {
  std::string documents;  // where they came from
  std::string model;
  std::string stored;        // a sentence
  std::vector<Asked> first;  // from dram
  std::vector<Asked> again;  // after the kill, from nvme
  std::vector<DemoCheck> checks;

  bool held() const;
  void add(std::string name, bool held, std::string detail) {
    checks.push_back({std::move(name), held, std::move(detail)});
  }
};

/// What a demo finds is said as it is found, and kept.
class DemoTeller {
 protected:
  explicit DemoTeller(bool talk) : talk_(talk) {}
  ~DemoTeller() = default;
  void say(const std::string& text) const;
  void check(std::string name, bool held, std::string detail);

  const bool talk_;
  DemoReport report_;
};

/// A table of questions.
std::string to_text(const std::vector<Asked>& asked);
std::string to_text(const DemoCheck& check);
/// The last line.
std::string summary_of(const DemoReport& report);
Json json_of(const DemoCheck& check);
Json to_json(const DemoReport& report);
}  // namespace terrace
