// `terrace tier resize`: more or less room in a tier, while it runs.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include "proto/tiers.grpc.pb.h"
#include "tools/cli/admin_call.h"
#include "tools/cli/connection.h"
#include "tools/cli/output.h"
#include "tools/cli/tier_actions.h"

namespace terrace {
namespace {

struct ResizeArguments {
  std::string tier;
  uint64_t bytes = 0;
  uint32_t device = 0;
};

/// On one node, with a bar; its last word, when it has the size.
StatusOr<proto::ResizeProgress> resize_on(const Globals& globals, const std::string& node,
                                          const ResizeArguments& arguments) {
  TERRACE_ASSIGN_OR_RETURN(const AdminCall call, begin_admin_call(globals, node, true));
  const auto stub = proto::TierAdmin::NewStub(call.channel);
  proto::ResizeRequest request;
  request.set_tier(arguments.tier);
  request.set_bytes(arguments.bytes);
  if (arguments.tier == "nvme") request.set_place(arguments.device);
  const auto stream = stub->Resize(call.context.get(), request);
  proto::ResizeProgress step;
  std::unique_ptr<Progress> bar;
  uint64_t from = 0;
  uint64_t all_to_leave = 0;
  while (stream->Read(&step)) {
    if (bar == nullptr) {
      from = step.bytes();
      bar = std::make_unique<Progress>("resize " + arguments.tier, 100, !globals.json);
    }
    all_to_leave = std::max(all_to_leave, step.to_leave());
    const uint64_t way = std::max(from, step.target()) - std::min(from, step.target());
    const uint64_t gone = std::max(from, step.bytes()) - std::min(from, step.bytes());
    const uint64_t left = all_to_leave - step.to_leave();
    const uint64_t all = std::max<uint64_t>(1, way + all_to_leave);
    bar->show(std::min<uint64_t>(100, (gone + left) * 100 / all), human_bytes(step.bytes()));
  }
  TERRACE_RETURN_IF_ERROR(end_of_stream(stream->Finish(), step.over(), node));
  const auto code = static_cast<StatusCode>(step.code());
  if (code != StatusCode::kOk) return error(code, step.message());
  return step;
}

/// What becomes of it when the node starts again.
std::string lasts(const std::string& tier) {
  if (tier == "nvme") return "for good, whatever nvme_bytes says";
  return "until the node ends: set " + tier + (tier == "shared" ? "_bytes_max" : "_bytes") +
         ", too";
}

int run_resize(const ResizeArguments& arguments, const Globals& globals) {
  if (arguments.tier == "nvme") {
    const Status one = node_of_device(globals).status();
    if (!one.ok()) return report_failure(globals, "tier resize", one);
  }
  Json nodes = Json::array();
  for (const std::string& node : node_names(globals)) {
    const auto done = resize_on(globals, node, arguments);
    if (!done.ok()) return report_failure(globals, "tier resize", done.status());
    nodes.push_back({{"node_id", done->node_id()}, {"bytes", done->bytes()}});
    if (globals.json) continue;
    const bool shared = arguments.tier == "shared";
    std::printf("%s: %s %s %s, %s\n", done->node_id().c_str(), arguments.tier.c_str(),
                shared ? "is kept below" : "has", human_bytes(done->bytes()).c_str(),
                lasts(arguments.tier).c_str());
  }
  if (globals.json) {
    print_json({{"command", "tier resize"},
                {"ok", true},
                {"tier", arguments.tier},
                {"bytes", arguments.bytes},
                {"nodes", nodes}});
  }
  return kExitOk;
}
}  // namespace

void add_tier_resize(CLI::App* tier, Invocation* invocation) {
  CLI::App* command = tier->add_subcommand("resize", "Change the size of a tier while it runs");
  auto arguments = std::make_shared<ResizeArguments>();
  command
      ->add_option("TIER", arguments->tier,
                   "hbm, dram, nvme (a device of it), or shared: what all nodes together may keep")
      ->required()
      ->check(CLI::IsMember({"hbm", "dram", "nvme", "shared"}));
  command->add_option("BYTES", arguments->bytes, "As 64GiB; dram has whole slabs, nvme 64 MiB")
      ->required()
      ->transform(CLI::AsSizeValue(false));
  CLI::Option* const device = command->add_option(
      "--device", arguments->device, "Of nvme: its number in tier status; on one node");
  device->check(CLI::Range(0, 65535));
  command->footer(
      examples("  terrace tier resize dram 48GiB\n"
               "  terrace tier resize nvme 2TiB --device 0\n"
               "  terrace --node a:7410,b:7410 tier resize shared 64GiB\n"));
  command->callback([=] {
    if ((arguments->tier == "nvme") != (device->count() > 0)) {
      throw CLI::ValidationError("resize", "nvme goes with --device, others with nothing");
    }
    invocation->run = [arguments](const Globals& globals) {
      return run_resize(*arguments, globals);
    };
  });
}
}  // namespace terrace
