// `terrace demo`: an engine answers over documents, cold and out of a node, through a kill in the
// middle of a load and a flipped bit on disk.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>

#include "tools/cli/commands.h"
#include "tools/cli/demo_documents.h"
#include "tools/cli/demo_report.h"
#include "tools/cli/demo_rig.h"
#include "tools/cli/demo_tiers.h"

namespace terrace {
namespace {

constexpr milliseconds kServingBound{2'000};
constexpr milliseconds kPatience{30'000};
constexpr uint32_t kLongPromptTokens = 1'000;
constexpr int kKillsMax = 5;  // until one comes before the load is over

class Demo : DemoTeller {
 public:
  Demo(const DemoOptions& options, const Globals& globals)
      : DemoTeller(!globals.json), options_(options) {}
  StatusOr<DemoReport> run();

 private:
  struct Question {
    const Document* document = nullptr;
    std::string text;
    std::vector<uint32_t> prompt;
    std::vector<float> logits;  // of the first cold answer: what every other must have
    Nanos cold{0};
  };
  Status read_documents();
  Status precompute();
  Status ask_first();
  Status ask_again();
  Status kill_in_the_middle();
  Status flip();
  StatusOr<Answer> ask(const Question& question, PrefixStore* store, bool save = false);
  StatusOr<Asked> ask_warm(const Question& question);
  void check_answers(const std::vector<Asked>& all, Tier tier, const std::string& when);

  const DemoOptions options_;
  const SystemClock clock_;
  std::vector<Document> documents_;
  std::unique_ptr<DemoRig> rig_;
  std::vector<Question> questions_;
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

Nanos median(std::vector<Nanos> times) {
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

Status Demo::read_documents() {
  report_.documents = options_.docs;
  if (report_.documents.empty()) {
    TERRACE_ASSIGN_OR_RETURN(report_.documents, default_documents_directory());
  }
  DocumentLimits limits;
  limits.documents_max = options_.documents;
  limits.bytes_min = options_.tokens_per_chunk;
  limits.bytes_max = options_.document_tokens;
  TERRACE_ASSIGN_OR_RETURN(documents_, load_documents(report_.documents, limits));
  return ok_status();
}

/// What a platform does offline: the KV of every document goes to the node, durable.
Status Demo::precompute() {
  const Nanos began = clock_.now();
  uint32_t tokens = 0;
  SaveReport all;
  for (const Document& document : documents_) {
    const std::vector<uint32_t> prefix = rig_->encode(prefix_of(document));
    tokens += static_cast<uint32_t>(prefix.size());
    AnswerOptions options;
    options.store = &rig_->store();
    options.load = false;
    options.save = true;
    TERRACE_ASSIGN_OR_RETURN(const Answer answer, rig_->engine().answer(prefix, options));
    all.chunks += answer.save.chunks;
    all.failed += answer.save.failed;
    all.bytes += answer.save.bytes;
    all.status.update(answer.save.status);
    for (const std::string& text : demo_questions()) {
      questions_.push_back({&document, text, rig_->encode(prompt_of(document, text)), {}, {}});
    }
  }
  report_.stored = human_count(all.chunks) + " chunks, " + human_bytes(all.bytes) + " of KV for " +
                   human_count(tokens) + " tokens in " + human_duration(clock_.now() - began);
  check("stored", all.failed == 0 && all.status.ok() && all.chunks > 0,
        report_.stored + ", durable on nvme" +
            (all.status.ok() ? "" : "; " + all.status.to_string()));
  return ok_status();
}

StatusOr<Answer> Demo::ask(const Question& question, PrefixStore* store, bool save) {
  AnswerOptions options;
  options.store = store;
  options.save = save;
  return rig_->engine().answer(question.prompt, options);
}

/// Asks out of the node; the median of the rounds, and the bits of all of them.
StatusOr<Asked> Demo::ask_warm(const Question& question) {
  Asked asked;
  asked.document = question.document->name;
  asked.question = question.text;
  asked.cold = question.cold;
  asked.bit_identical = true;
  std::vector<Nanos> times;
  for (uint32_t round = 0; round < options_.rounds; ++round) {
    TERRACE_ASSIGN_OR_RETURN(const Answer answer, ask(question, &rig_->store()));
    times.push_back(answer.time_to_first_token);
    asked.bit_identical &= same_bits(answer.logits, question.logits);
    asked.prompt_tokens = answer.prompt_tokens;
    asked.bytes = answer.load.bytes;
    for (size_t t = 0; t < kTierCount && answer.load.bytes > 0; ++t) {
      asked.hit_tokens[t] =
          static_cast<uint32_t>(answer.hit_tokens * answer.load.tier_bytes[t] / answer.load.bytes);
    }
  }
  asked.warm = median(std::move(times));
  return asked;
}

Status Demo::ask_first() {
  Progress progress("demo: asking", questions_.size(), talk_);
  for (size_t i = 0; i < questions_.size(); ++i) {
    Question& question = questions_[i];
    progress.show(i, question.document->name);
    std::vector<Nanos> times;
    for (uint32_t round = 0; round < options_.rounds; ++round) {
      TERRACE_ASSIGN_OR_RETURN(const Answer answer, ask(question, nullptr));
      times.push_back(answer.time_to_first_token);
      if (round == 0) question.logits = answer.logits;
    }
    question.cold = median(std::move(times));
    TERRACE_ASSIGN_OR_RETURN(Asked asked, ask_warm(question));
    report_.first.push_back(std::move(asked));
  }
  return ok_status();
}

void Demo::check_answers(const std::vector<Asked>& all, Tier tier, const std::string& when) {
  say("\n" + to_text(all));
  size_t identical = 0, hits = 0, long_prompts = 0, fast = 0;
  double slowest = 0;  // warm over cold
  for (const Asked& asked : all) {
    identical += asked.bit_identical ? 1 : 0;
    hits += asked.hit_tokens[static_cast<size_t>(tier)] > 0 ? 1 : 0;
    if (asked.prompt_tokens < kLongPromptTokens) continue;
    ++long_prompts;
    const double part =
        static_cast<double>(asked.warm.count()) / static_cast<double>(asked.cold.count());
    slowest = std::max(slowest, part);
    fast += part <= 0.5 ? 1 : 0;
  }
  const std::string of = " of " + std::to_string(all.size()) + " answers";
  check("logits bit-identical " + when, identical == all.size(), std::to_string(identical) + of);
  check("hits " + when, hits == all.size(), std::to_string(hits) + of);
  check("warm TTFT at most half of cold " + when, fast == long_prompts && long_prompts > 0,
        std::to_string(fast) + " of " + std::to_string(long_prompts) + " prompts of 1,000 tokens " +
            "or more; the slowest took " + fixed(slowest * 100, 0) + " % of cold");
}

Status Demo::kill_in_the_middle() {
  say("\nkilling the node (SIGKILL) in the middle of a load ...\n");
  const Question& question = questions_[0];
  Nanos killed{0}, serving{0};
  Status restarted;
  for (int attempt = 0; attempt < kKillsMax; ++attempt) {
    InterruptedStore store(&rig_->store(), [&] {
      restarted = rig_->store().wait_layer(0);  // the load is well under way
      if (!restarted.ok()) return;
      killed = clock_.now();
      rig_->kill_node();
      restarted = rig_->restart_node();
      if (restarted.ok()) restarted = rig_->wait_for_nvme(question.prompt, kPatience);
      serving = clock_.now();
    });
    TERRACE_ASSIGN_OR_RETURN(const Answer answer, ask(question, &store));
    TERRACE_RETURN_IF_ERROR(restarted);
    TERRACE_RETURN_IF_ERROR(rig_->wait_for_session(question.prompt, kPatience));
    const LoadReport& load = answer.load;
    if (load.chunks == load.expected_chunks) continue;  // it was over already
    check("killed in the middle of a load", same_bits(answer.logits, question.logits),
          human_bytes(load.bytes) + " of " + human_bytes(report_.first[0].bytes) +
              " had arrived, " + std::to_string(load.chunks) + " of " +
              std::to_string(load.expected_chunks) +
              " chunks whole; the rest was computed; logits " +
              (same_bits(answer.logits, question.logits) ? "identical" : "DIFFER"));
    check("back from nvme within 2 s of the kill", serving - killed <= kServingBound,
          human_duration(serving - killed));
    return ok_status();
  }
  check("killed in the middle of a load", false, "every load was over before the kill came");
  return ok_status();
}

Status Demo::ask_again() {
  Progress progress("demo: asking again", questions_.size(), talk_);
  for (size_t i = 0; i < questions_.size(); ++i) {
    progress.show(i, questions_[i].document->name);
    TERRACE_ASSIGN_OR_RETURN(Asked asked, ask_warm(questions_[i]));
    report_.again.push_back(std::move(asked));
  }
  return ok_status();
}

Status Demo::flip() {
  say("\nflipping one bit of a stored chunk in the data file ...\n");
  const Question& question = questions_[0];
  const uint32_t before = report_.again[0].hits();
  const uint32_t chunk = before / options_.tokens_per_chunk / 2;
  TERRACE_RETURN_IF_ERROR(rig_->stop_node());
  TERRACE_RETURN_IF_ERROR(rig_->flip_bit(question.prompt, chunk));
  TERRACE_RETURN_IF_ERROR(rig_->restart_node());
  TERRACE_RETURN_IF_ERROR(rig_->wait_for_session(question.prompt, kPatience));
  TERRACE_ASSIGN_OR_RETURN(const Answer answer, ask(question, &rig_->store(), true));
  TERRACE_ASSIGN_OR_RETURN(const uint64_t crc_failures, rig_->counter("crc_failures_nvme"));
  TERRACE_ASSIGN_OR_RETURN(const uint64_t quarantined, rig_->counter("quarantined_objects"));
  check("a flipped bit is a counted miss",
        same_bits(answer.logits, question.logits) && crc_failures == 1 && quarantined == 1 &&
            answer.hit_tokens == chunk * options_.tokens_per_chunk,
        std::to_string(answer.hit_tokens) + " of " + std::to_string(before) +
            " tokens hit, the rest computed; node counts " + std::to_string(crc_failures) +
            " CRC failure, " + std::to_string(quarantined) + " quarantined; logits " +
            (same_bits(answer.logits, question.logits) ? "identical" : "DIFFER"));
  TERRACE_ASSIGN_OR_RETURN(const Answer healed, ask(question, &rig_->store()));
  check("and heals", same_bits(healed.logits, question.logits) && healed.hit_tokens == before,
        "stored anew by the engine: " + std::to_string(healed.hit_tokens) + " tokens hit");
  return ok_status();
}

StatusOr<DemoReport> Demo::run() {
  TERRACE_RETURN_IF_ERROR(read_documents());
  TERRACE_ASSIGN_OR_RETURN(rig_, DemoRig::start(options_));
  report_.model = options_.model.empty() ? "built in" : options_.model;
  say(std::to_string(documents_.size()) + " documents of " + report_.documents + ", model " +
      report_.model + ", node " + rig_->endpoint() + "\n");
  for (const std::string& note : rig_->engine().notes()) say(note + "\n");
  TERRACE_RETURN_IF_ERROR(precompute());
  TERRACE_RETURN_IF_ERROR(ask_first());
  check_answers(report_.first, Tier::dram, "from dram");
  TERRACE_RETURN_IF_ERROR(kill_in_the_middle());
  TERRACE_RETURN_IF_ERROR(ask_again());
  check_answers(report_.again, Tier::nvme, "from nvme after the kill");
  TERRACE_RETURN_IF_ERROR(flip());
  return std::move(report_);
}

int run_demo(const DemoOptions& options, const Globals& globals) {
  Demo demo(options, globals);
  const StatusOr<DemoReport> report = demo.run();
  if (!report.ok()) {
    report_failure(globals, "demo", report.status());
    return kExitError;  // it could not run to its end, whatever the reason
  }
  if (globals.json) {
    print_json(to_json(*report));
  } else {
    std::fputs(("\n" + summary_of(*report)).c_str(), stdout);
  }
  return report->held() ? kExitOk : kExitNo;
}
}  // namespace

void add_demo(CLI::App* app, Invocation* invocation) {
  CLI::App* command =
      app->add_subcommand("demo", "An engine answers over documents, out of a node of its own");
  auto options = std::make_shared<DemoOptions>();
  command->add_option("--docs", options->docs,
                      "Directory of .md and .txt files; default: the checkout's docs");
  command->add_option("--model", options->model,
                      "Directory with config.json and model.safetensors; default: built in");
  command->add_option("--documents", options->documents, "So many of them, the largest")
      ->check(CLI::Range(1u, 100u))
      ->capture_default_str();
  command->add_option("--document-tokens", options->document_tokens, "Of each, at most")
      ->check(CLI::Range(256u, 16'384u))
      ->capture_default_str();
  command->add_option("--rounds", options->rounds, "Each question so often; medians count")
      ->check(CLI::Range(1u, 100u))
      ->capture_default_str();
  auto tiers = std::make_shared<bool>(false);
  command->add_flag("--tiers", *tiers, "No engine: objects through all tiers of a node and back");
  command->add_option("--directory", options->directory, "Where the node's files go")
      ->capture_default_str();
  command->footer(
      examples("  terrace demo\n"
               "  terrace demo --tiers\n"
               "  terrace demo --docs ~/notes --documents 8\n"
               "  terrace demo --model ~/models/qwen2-0.5b --rounds 1 --json\n"));
  command->callback([options, tiers, invocation] {
    invocation->run = [options, tiers](const Globals& globals) {
      return *tiers ? run_tier_demo(options->directory, globals) : run_demo(*options, globals);
    };
  });
}
}  // namespace terrace
