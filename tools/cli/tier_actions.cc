#include "tools/cli/tier_actions.h"

#include <cstdio>
#include <memory>

#include "base/limits.h"
#include "proto/tiers.grpc.pb.h"
#include "tools/cli/admin_call.h"
#include "tools/cli/connection.h"
#include "tools/cli/output.h"

namespace terrace {
namespace {
struct VerifyArguments {
  std::string tier;
  uint32_t mib_per_s = 0;
};
struct ResizeArguments {
  std::string tier;
  uint64_t bytes = 0;
};

/// One pass of one node, with a bar; its last word.
StatusOr<proto::VerifyProgress> verify_on(const Globals& globals, const std::string& node,
                                          const VerifyArguments& arguments) {
  TERRACE_ASSIGN_OR_RETURN(const AdminCall call, begin_admin_call(globals, node, true));
  const auto stub = proto::TierAdmin::NewStub(call.channel);
  proto::VerifyRequest request;
  request.set_tier(arguments.tier);
  request.set_mib_per_s(arguments.mib_per_s);
  const auto stream = stub->Verify(call.context.get(), request);
  proto::VerifyProgress step;
  std::unique_ptr<Progress> bar;
  while (stream->Read(&step)) {
    if (bar == nullptr) {
      bar = std::make_unique<Progress>("verify " + arguments.tier,
                                       std::max<uint64_t>(1, step.expected()), !globals.json);
    }
    bar->show(std::min(step.objects(), step.expected()), human_bytes(step.bytes()));
  }
  TERRACE_RETURN_IF_ERROR(from_grpc(stream->Finish(), node));
  if (!step.over())
    return error(StatusCode::kUnavailable, "node " + node + ": it is shutting down");
  return step;
}

int run_verify(const VerifyArguments& arguments, const Globals& globals) {
  Json nodes = Json::array();
  uint64_t bad = 0;
  for (const std::string& node : node_names(globals)) {
    const auto done = verify_on(globals, node, arguments);
    if (!done.ok()) return report_failure(globals, "tier verify", done.status());
    bad += done->bad();
    nodes.push_back({{"node_id", done->node_id()},
                     {"objects", done->objects()},
                     {"bytes", done->bytes()},
                     {"bad", done->bad()}});
    if (globals.json) continue;
    std::printf("%s: %s objects of %s read and checked (%s), %s damaged%s\n",
                done->node_id().c_str(), human_count(done->objects()).c_str(),
                arguments.tier.c_str(), human_bytes(done->bytes()).c_str(),
                human_count(done->bad()).c_str(),
                done->bad() == 0 ? "" : ": quarantined, `terrace explain` knows them");
  }
  if (globals.json) {
    print_json(
        {{"command", "tier verify"}, {"ok", bad == 0}, {"tier", arguments.tier}, {"nodes", nodes}});
  }
  return bad == 0 ? kExitOk : kExitNo;
}

int run_drain(const Globals& globals) {
  Json nodes = Json::array();
  uint64_t failed = 0;
  for (const std::string& node : node_names(globals)) {
    const auto call = begin_admin_call(globals, node, true);
    if (!call.ok()) return report_failure(globals, "tier drain", call.status());
    const auto stub = proto::TierAdmin::NewStub(call->channel);
    const auto stream = stub->DrainDram(call->context.get(), {});
    proto::DrainDramProgress step;
    while (stream->Read(&step)) {
    }
    Status done = from_grpc(stream->Finish(), node);
    if (done.ok() && !step.over()) {
      done = error(StatusCode::kUnavailable, "node " + node + ": it is shutting down");
    }
    if (!done.ok()) return report_failure(globals, "tier drain", done);
    failed += step.failed();
    nodes.push_back(
        {{"node_id", step.node_id()}, {"written", step.written()}, {"failed", step.failed()}});
    if (globals.json) continue;
    std::printf("%s: %s objects that lay only in dram are on nvme now, %s could not be written\n",
                step.node_id().c_str(), human_count(step.written()).c_str(),
                human_count(step.failed()).c_str());
  }
  if (globals.json) {
    print_json(
        {{"command", "tier drain"}, {"ok", failed == 0}, {"tier", "dram"}, {"nodes", nodes}});
  }
  return failed == 0 ? kExitOk : kExitNo;
}

int run_resize(const ResizeArguments& arguments, const Globals& globals) {
  proto::ResizeSharedRequest request;
  request.set_bytes(arguments.bytes);
  for (const std::string& node : node_names(globals)) {
    const auto done =
        admin_call<proto::TierAdmin>(globals, node, request, &proto::TierAdmin::Stub::ResizeShared);
    if (!done.ok()) return report_failure(globals, "tier resize", done.status());
    if (!globals.json) {
      std::printf(
          "%s: keeps the shared tier below %s from its next sweep on, until it ends: set "
          "shared_bytes_max, too\n",
          done->node_id().c_str(), human_bytes(arguments.bytes).c_str());
    }
  }
  if (globals.json) {
    print_json({{"command", "tier resize"},
                {"ok", true},
                {"tier", arguments.tier},
                {"bytes", arguments.bytes}});
  }
  return kExitOk;
}
}  // namespace

void add_tier_verify(CLI::App* tier, Invocation* invocation) {
  CLI::App* command = tier->add_subcommand("verify", "Read and check a whole tier now");
  auto arguments = std::make_shared<VerifyArguments>();
  command->add_option("TIER", arguments->tier, "dram or nvme")
      ->required()
      ->check(CLI::IsMember({"dram", "nvme"}));
  command
      ->add_option("--mib-per-s", arguments->mib_per_s,
                   "At most; default: the node's scrub_mib_per_s")
      ->check(CLI::Range(1u, 1'000'000u));
  command->footer(
      examples("  terrace tier verify nvme\n"
               "  terrace tier verify dram --mib-per-s 2000 --json\n"));
  command->callback([arguments, invocation] {
    invocation->run = [arguments](const Globals& globals) {
      return run_verify(*arguments, globals);
    };
  });
}

void add_tier_drain(CLI::App* tier, Invocation* invocation) {
  CLI::App* command =
      tier->add_subcommand("drain", "Write what lies only there to the next slower tier");
  auto which = std::make_shared<std::string>();
  command->add_option("TIER", *which, "dram: its objects stay, and are on nvme too")
      ->required()
      ->check(CLI::IsMember({"dram"}));
  command->footer(examples("  terrace tier drain dram\n"));
  command->callback([which, invocation] { invocation->run = run_drain; });
}

void add_tier_resize(CLI::App* tier, Invocation* invocation) {
  CLI::App* command = tier->add_subcommand("resize", "Change the size of a tier while it runs");
  auto arguments = std::make_shared<ResizeArguments>();
  command->add_option("TIER", arguments->tier, "shared: what all nodes together may keep")
      ->required()
      ->check(CLI::IsMember({"shared"}));
  command->add_option("BYTES", arguments->bytes, "As 64GiB")
      ->required()
      ->transform(CLI::AsSizeValue(false));
  command->footer(examples("  terrace --node a:7410,b:7410 tier resize shared 64GiB\n"));
  command->callback([arguments, invocation] {
    invocation->run = [arguments](const Globals& globals) {
      return run_resize(*arguments, globals);
    };
  });
}
}  // namespace terrace
