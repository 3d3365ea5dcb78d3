#include "tools/cli/demo_tiers.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "tools/cli/demo_report.h"
#include "tools/cli/demo_tier_rig.h"
#include "tools/cli/output.h"

namespace terrace {
namespace {

constexpr size_t kDocuments = 8;
constexpr size_t kFillersMax = 400;       // until the set has sunk by one tier
constexpr milliseconds kPatience{8'000};  // with what happens in the background

class TierDemo : DemoTeller {
 public:
  TierDemo(std::unique_ptr<TierRig> rig, bool talk) : DemoTeller(talk), rig_(std::move(rig)) {
    for (size_t i = 0; i < kDocuments; ++i) set_.push_back("document-" + std::to_string(i));
  }
  Status run();
  const DemoReport& report() const { return report_; }

 private:
  Status show(const std::string& title);
  StatusOr<std::map<std::string, size_t>> places();
  StatusOr<bool> wait_until(const std::function<StatusOr<bool>()>& held);
  Status sink(const std::string& to);
  Status read_set(const std::string& when, Tier from);
  Status store();
  Status sink_to_nvme();
  Status sink_to_shared();
  Status kill();
  Status erase();
  Status expire();
  Status pins();
  Status administer();

  std::unique_ptr<TierRig> rig_;
  const SystemClock clock_;
  std::vector<std::string> set_;
  size_t fillers_ = 0;
};

std::string counted(const std::map<std::string, size_t>& places) {
  std::string text;
  for (const auto& [where, count] : places) {
    text += (text.empty() ? "" : "; ") + std::to_string(count) + " in " + where;
  }
  return text;
}

/// The tiers as they are, and where the set lies.
Status TierDemo::show(const std::string& title) {
  TERRACE_ASSIGN_OR_RETURN(const proto::TierStatusReply status, rig_->tiers());
  TERRACE_ASSIGN_OR_RETURN(const auto where, places());
  Table table({"tier", "used", "capacity", "objects", "evicted", "health"});
  for (const auto& tier : status.tiers()) {
    table.add({tier.tier(), human_bytes(tier.used_bytes()), human_bytes(tier.capacity_bytes()),
               human_count(tier.objects()), human_count(tier.evictions()), tier.health()});
  }
  say("\n" + title + "\n" + table.text() + "the set: " + counted(where) + "\n");
  return ok_status();
}

StatusOr<std::map<std::string, size_t>> TierDemo::places() {
  std::map<std::string, size_t> out;
  for (const std::string& name : set_) {
    TERRACE_ASSIGN_OR_RETURN(const proto::ExplainReply said, rig_->explain(name));
    ++out[tiers_of(said)];
  }
  return out;
}

StatusOr<bool> TierDemo::wait_until(const std::function<StatusOr<bool>()>& held) {
  const Nanos deadline = clock_.now() + kPatience;
  for (;;) {
    TERRACE_ASSIGN_OR_RETURN(const bool now, held());
    if (now || clock_.now() >= deadline) return now;
    rig_->pause();
  }
}

Status TierDemo::store() {
  for (const std::string& name : set_) {
    TERRACE_RETURN_IF_ERROR(rig_->put(name, Durability::memory));
  }
  Retention pinned;
  pinned.pin = true;
  pinned.type = "system";
  TERRACE_RETURN_IF_ERROR(rig_->put("pinned", Durability::memory, pinned));
  TERRACE_RETURN_IF_ERROR(show("stored, " + std::to_string(kDocuments) + " documents of 1 MiB"));
  TERRACE_ASSIGN_OR_RETURN(const auto where, places());
  size_t in_dram = 0;
  for (const auto& [tiers, count] : where) in_dram += tiers.starts_with("dram") ? count : 0;
  check("stored in dram", in_dram == kDocuments, counted(where));
  return ok_status();  // not read: what was used again would be worth keeping
}

/// New objects push the set out, until all of it is in `to` and nowhere faster.
Status TierDemo::sink(const std::string& to) {
  for (size_t i = 0; i < kFillersMax; ++i) {
    TERRACE_ASSIGN_OR_RETURN(const auto where, places());
    size_t sunk = 0;
    for (const auto& [tiers, count] : where) sunk += tiers.starts_with(to) ? count : 0;
    if (sunk == kDocuments) return ok_status();
    const Status put = rig_->put("filler-" + std::to_string(fillers_++), Durability::memory);
    // Under pressure a put may be refused until what is there was written.
    if (!put.ok() && put.code() != StatusCode::kResourceExhausted) return put;
    rig_->pause();
  }
  return ok_status();
}

Status TierDemo::sink_to_nvme() {
  TERRACE_RETURN_IF_ERROR(sink("nvme"));
  TERRACE_RETURN_IF_ERROR(show("pushed out of dram by " + std::to_string(fillers_) + " others"));
  TERRACE_ASSIGN_OR_RETURN(const auto where, places());
  const auto nvme = where.find("nvme");
  const auto both = where.find("nvme, shared");
  const size_t count =
      (nvme == where.end() ? 0 : nvme->second) + (both == where.end() ? 0 : both->second);
  TERRACE_ASSIGN_OR_RETURN(const proto::ExplainReply said, rig_->explain(set_[0]));
  const bool known = !said.departures().empty() && said.departures(0).tier() == "dram" &&
                     said.departures(0).reason() == "evicted" && !said.departures(0).last();
  check("sank from dram to nvme", count == kDocuments, counted(where));
  check("explain says it was evicted from dram", known,
        known ? "value " + fixed(said.departures(0).value() * 1e12, 1) + " below price " +
                    fixed(said.departures(0).price() * 1e12, 1) + " (1e-12)"
              : "it does not");
  return ok_status();
}

Status TierDemo::sink_to_shared() {
  TERRACE_RETURN_IF_ERROR(sink("shared"));
  TERRACE_RETURN_IF_ERROR(show("pushed out of nvme by " + std::to_string(fillers_) + " others"));
  TERRACE_ASSIGN_OR_RETURN(const auto where, places());
  const auto shared = where.find("shared");
  check("sank from nvme to the shared directory",
        shared != where.end() && shared->second == kDocuments, counted(where));
  return read_set("from the shared directory", Tier::shared);
}

/// Every byte of the set is compared; `from`: where the first read of each comes from. Loads from
/// the shared tier go through dram, so they are told by where the objects were before.
Status TierDemo::read_set(const std::string& when, Tier from) {
  size_t right = 0;
  uint64_t bytes = 0, hits = 0;
  TERRACE_ASSIGN_OR_RETURN(const proto::TierStatusReply before, rig_->tiers());
  for (const std::string& name : set_) {
    const StatusOr<TierRig::Read> read = rig_->get(name);
    if (!read.ok()) {
      check("read " + when, false, name + ": " + read.status().to_string());
      return ok_status();
    }
    right += read->wrong_bytes == 0 ? 1 : 0;
    bytes += TierRig::kObjectBytes;
    hits += read->tier_bytes[static_cast<size_t>(from)];
  }
  if (from == Tier::shared) {
    TERRACE_ASSIGN_OR_RETURN(const proto::TierStatusReply after, rig_->tiers());
    const auto reads = [](const proto::TierStatusReply& status) {
      uint64_t count = 0;
      for (const auto& tier : status.tiers()) {
        if (tier.tier() == "shared") count = tier.read_bytes();
      }
      return count;
    };
    hits = reads(after) - reads(before);
  }
  check("every byte right, " + when, right == set_.size() && hits == bytes,
        human_bytes(bytes) + " compared, " + human_bytes(hits) + " of them " + when);
  return ok_status();
}

Status TierDemo::kill() {
  Retention brief;
  brief.ttl = std::chrono::seconds(4);
  TERRACE_RETURN_IF_ERROR(rig_->put("brief", Durability::nvme, brief));
  TERRACE_ASSIGN_OR_RETURN(const auto before, places());
  say("\nkilling the node (SIGKILL); a keeper holds its dram ...\n");
  TERRACE_ASSIGN_OR_RETURN(const Nanos took, rig_->kill_and_restart());
  TERRACE_RETURN_IF_ERROR(
      show("a new node over what the killed one left, after " + human_duration(took)));
  TERRACE_ASSIGN_OR_RETURN(const auto after, places());
  size_t in_dram = 0;
  for (const auto& [tiers, count] : after) in_dram += tiers.starts_with("dram") ? count : 0;
  check("dram survives SIGKILL", in_dram == kDocuments,
        counted(after) + "; before: " + counted(before) + "; " + human_duration(took));
  return read_set("from dram after the kill", Tier::dram);
}

Status TierDemo::erase() {
  const std::string name = set_.back();
  TERRACE_RETURN_IF_ERROR(rig_->erase(name));
  TERRACE_ASSIGN_OR_RETURN(const proto::ExplainReply said, rig_->explain(name));
  const StatusOr<TierRig::Read> read = rig_->get(name);
  const bool erased = !said.departures().empty() && said.departures(0).reason() == "erased";
  check("erased everywhere",
        !said.here() && erased && read.status().code() == StatusCode::kNotFound,
        "in " + tiers_of(said) + "; explain: " + (erased ? "erased" : "nothing"));
  set_.pop_back();
  return ok_status();
}

Status TierDemo::expire() {
  const auto expired = [](const proto::ExplainReply& said) {
    return !said.departures().empty() && said.departures(0).reason() == "expired";
  };
  TERRACE_ASSIGN_OR_RETURN(const bool over, wait_until([&]() -> StatusOr<bool> {
                             TERRACE_ASSIGN_OR_RETURN(const auto said, rig_->explain("brief"));
                             return expired(said);
                           }));
  const StatusOr<TierRig::Read> read = rig_->get("brief");  // so that a shared copy goes, too
  TERRACE_ASSIGN_OR_RETURN(const bool gone, wait_until([&]() -> StatusOr<bool> {
                             TERRACE_ASSIGN_OR_RETURN(const auto said, rig_->explain("brief"));
                             return !said.here();
                           }));
  TERRACE_ASSIGN_OR_RETURN(const proto::ExplainReply said, rig_->explain("brief"));
  uint32_t misses = 0;
  for (const auto& departure : said.departures()) misses += departure.misses();
  const bool counted_miss = expired(said) && misses > 0;
  check("a ttl of 4 s ends, through the kill",
        over && gone && counted_miss && read.status().code() == StatusCode::kNotFound,
        counted_miss ? "expired, and a counted miss since" : "still there, or not said");
  return ok_status();
}

Status TierDemo::pins() {
  TERRACE_ASSIGN_OR_RETURN(const proto::ExplainReply said, rig_->explain("pinned"));
  const bool local = tiers_of(said).starts_with("dram") || tiers_of(said).starts_with("nvme");
  check(
      "the pinned one never left the node", local && said.pinned(),
      "in " + tiers_of(said) + " after " + std::to_string(fillers_) + " MiB of others and a kill");
  const Status second = rig_->pin(set_[0], true);
  const Status third = rig_->pin(set_[1], true);
  check("pins stop at the quota", second.ok() && third.code() == StatusCode::kResourceExhausted,
        third.message());
  TERRACE_RETURN_IF_ERROR(rig_->pin(set_[0], false));
  const StatusOr<TierRig::Read> read = rig_->get("pinned");
  check("its bytes are right", read.ok() && read->wrong_bytes == 0, "1 MiB compared");
  return ok_status();
}

Status TierDemo::administer() {
  const Status moved = rig_->move(set_[0], "nvme");
  TERRACE_ASSIGN_OR_RETURN(const proto::ExplainReply below, rig_->explain(set_[0]));
  const Status back = rig_->move(set_[0], "dram");
  TERRACE_ASSIGN_OR_RETURN(const proto::ExplainReply above, rig_->explain(set_[0]));
  check("moved to nvme and back to dram",
        moved.ok() && back.ok() && tiers_of(below).starts_with("nvme") &&
            tiers_of(above).starts_with("dram"),
        "in " + tiers_of(below) + ", then in " + tiers_of(above) +
            (moved.ok() && back.ok() ? "" : "; " + moved.to_string() + "; " + back.to_string()));
  TERRACE_ASSIGN_OR_RETURN(const proto::ClearProgress cleared, rig_->clear());
  TERRACE_ASSIGN_OR_RETURN(const auto where, places());
  const auto none = where.find("none");
  TERRACE_ASSIGN_OR_RETURN(const proto::ExplainReply said, rig_->explain("pinned"));
  check("cleared but for what is pinned",
        cleared.over() && cleared.failed() == 0 && cleared.kept() == 1 && said.here() &&
            none != where.end() && none->second == set_.size(),
        human_count(cleared.cleared()) + " objects cleared, " + human_count(cleared.kept()) +
            " kept; the set: " + counted(where));
  return show("cleared");
}

Status TierDemo::run() {
  say("node " + rig_->node() + " with dram, nvme and a shared directory\n");
  TERRACE_RETURN_IF_ERROR(store());
  TERRACE_RETURN_IF_ERROR(sink_to_nvme());
  TERRACE_RETURN_IF_ERROR(sink_to_shared());
  TERRACE_RETURN_IF_ERROR(kill());
  TERRACE_RETURN_IF_ERROR(erase());
  TERRACE_RETURN_IF_ERROR(expire());
  TERRACE_RETURN_IF_ERROR(pins());
  return administer();
}
}  // namespace

int run_tier_demo(const std::string& directory, const Globals& globals) {
  StatusOr<std::unique_ptr<TierRig>> rig = TierRig::start(directory);
  Status ran = rig.status();
  if (ran.ok()) {
    TierDemo demo(*std::move(rig), !globals.json);
    ran = demo.run();
    if (ran.ok()) {
      const DemoReport& report = demo.report();
      if (globals.json) {
        Json checks = Json::array();
        for (const DemoCheck& each : report.checks) checks.push_back(json_of(each));
        print_json({{"command", "demo --tiers"}, {"ok", report.held()}, {"checks", checks}});
      } else {
        std::fputs(("\n" + summary_of(report)).c_str(), stdout);
      }
      return report.held() ? kExitOk : kExitNo;
    }
  }
  report_failure(globals, "demo --tiers", ran);
  return kExitError;  // it could not run to its end, whatever the reason
}
}  // namespace terrace
