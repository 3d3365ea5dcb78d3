#include "tools/cli/demo_report.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace terrace {
namespace {

double ratio(const Asked& asked) {
  return asked.warm.count() <= 0
             ? 0
             : static_cast<double>(asked.cold.count()) / static_cast<double>(asked.warm.count());
}

Json json_of(const std::vector<Asked>& all) {
  Json out = Json::array();
  for (const Asked& asked : all) {
    Json tiers = Json::object();
    for (size_t t = 0; t < kTierCount; ++t) {
      if (asked.hit_tokens[t] > 0) tiers[name_of(static_cast<Tier>(t))] = asked.hit_tokens[t];
    }
    out.push_back({{"document", asked.document},
                   {"question", asked.question},
                   {"prompt_tokens", asked.prompt_tokens},
                   {"hit_tokens", asked.hits()},
                   {"hit_tokens_by_tier", tiers},
                   {"ttft_cold_ms", microseconds_of(asked.cold) / 1e3},
                   {"ttft_warm_ms", microseconds_of(asked.warm) / 1e3},
                   {"bytes", asked.bytes},
                   {"bit_identical", asked.bit_identical}});
  }
  return out;
}
}  // namespace

void DemoTeller::say(const std::string& text) const {
  if (!talk_) return;
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

void DemoTeller::check(std::string name, bool held, std::string detail) {
  report_.add(std::move(name), held, std::move(detail));
  say(to_text(report_.checks.back()));
}

bool DemoReport::held() const {
  return std::all_of(checks.begin(), checks.end(), [](const DemoCheck& c) { return c.held; });
}

std::string to_text(const std::vector<Asked>& all) {
  Table table({"document", "question", "tokens", "dram hit", "nvme hit", "TTFT cold", "TTFT warm",
               "faster", "loaded", "logits"});
  for (const Asked& asked : all) {
    const std::string question =
        asked.question.size() > 24 ? asked.question.substr(0, 21) + "..." : asked.question;
    table.add({asked.document, question, human_count(asked.prompt_tokens),
               human_count(asked.hit_tokens[static_cast<size_t>(Tier::dram)]),
               human_count(asked.hit_tokens[static_cast<size_t>(Tier::nvme)]),
               human_duration(asked.cold), human_duration(asked.warm), fixed(ratio(asked), 1) + "x",
               human_bytes(asked.bytes), asked.bit_identical ? "identical" : "DIFFER"});
  }
  return table.text();
}

std::string to_text(const DemoCheck& check) {
  return std::string(check.held ? "  ok    " : "  FAILED ") + check.name + ": " + check.detail +
         "\n";
}

std::string summary_of(const DemoReport& report) {
  const auto held = static_cast<size_t>(std::count_if(report.checks.begin(), report.checks.end(),
                                                      [](const DemoCheck& c) { return c.held; }));
  return std::string(report.held() ? "demo: all " : "demo: FAILED: only ") + std::to_string(held) +
         " of " + std::to_string(report.checks.size()) + " checks held\n";
}

Json json_of(const DemoCheck& check) {
  return {{"name", check.name}, {"held", check.held}, {"detail", check.detail}};
}

Json to_json(const DemoReport& report) {
  Json checks = Json::array();
  for (const DemoCheck& check : report.checks) checks.push_back(json_of(check));
  return {{"command", "demo"},
          {"ok", report.held()},
          {"documents", report.documents},
          {"model", report.model},
          {"stored", report.stored},
          {"questions", json_of(report.first)},
          {"questions_after_restart", json_of(report.again)},
          {"checks", checks},
          {"held", report.held()}};
}
}  // namespace terrace
