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
struct DrainArguments {
  std::string tier;
  uint32_t device = 0;
  bool undo = false;
  bool empty = false;
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
      bar = std::make_unique<Progress>("verify " + arguments.tier, step.expected(), !globals.json);
    }
    bar->show(step.objects(),
              human_count(step.objects()) + " objects, " + human_bytes(step.bytes()));
  }
  TERRACE_RETURN_IF_ERROR(end_of_stream(stream->Finish(), step.over(), node));
  return step;
}

void show_verified(const proto::VerifyProgress& done, const std::string& tier) {
  std::printf("%s: %s objects of %s read and checked (%s), %s damaged%s\n", done.node_id().c_str(),
              human_count(done.objects()).c_str(), tier.c_str(), human_bytes(done.bytes()).c_str(),
              human_count(done.bad()).c_str(),
              done.bad() == 0 ? "" : ": quarantined, `terrace explain` knows them");
  if (done.skipped() > 0) {
    std::printf("%s skipped: not readable now%s\n", human_count(done.skipped()).c_str(),
                tier == "shared" ? ", written by a later build, or not Terrace's" : "");
  }
  if (done.code() != static_cast<int32_t>(StatusCode::kOk)) {
    std::printf("incomplete: %s\n", done.message().c_str());
  }
}

int run_verify(const VerifyArguments& arguments, const Globals& globals) {
  Json nodes = Json::array();
  uint64_t bad = 0;
  bool all = true;
  for (const std::string& node : node_names(globals)) {
    const auto done = verify_on(globals, node, arguments);
    if (!done.ok()) return report_failure(globals, "tier verify", done.status());
    const bool finished = done->code() == static_cast<int32_t>(StatusCode::kOk);
    bad += done->bad();
    all &= finished;
    nodes.push_back({{"node_id", done->node_id()},
                     {"objects", done->objects()},
                     {"bytes", done->bytes()},
                     {"bad", done->bad()},
                     {"skipped", done->skipped()},
                     {"ok", finished},
                     {"error", done->message()}});
    if (!globals.json) show_verified(*done, arguments.tier);
  }
  if (globals.json) {
    print_json({{"command", "tier verify"},
                {"ok", bad == 0 && all},
                {"tier", arguments.tier},
                {"nodes", nodes}});
  }
  if (bad > 0) return kExitNo;
  return all ? kExitOk : kExitError;
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
    const Status done = end_of_stream(stream->Finish(), step.over(), node);
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

/// Moves what the device has, until nothing is left that can be moved.
StatusOr<proto::EmptyDeviceProgress> empty_device(const Globals& globals, const std::string& node,
                                                  uint32_t device) {
  TERRACE_ASSIGN_OR_RETURN(const AdminCall call, begin_admin_call(globals, node, true));
  const auto stub = proto::TierAdmin::NewStub(call.channel);
  proto::EmptyDeviceRequest request;
  request.set_place(device);
  const auto stream = stub->EmptyDevice(call.context.get(), request);
  proto::EmptyDeviceProgress step;
  Progress bar("empty device", 0, !globals.json);
  while (stream->Read(&step)) bar.show(step.moved(), human_count(step.moved()) + " objects");
  TERRACE_RETURN_IF_ERROR(end_of_stream(stream->Finish(), step.over(), node));
  return step;
}

int run_drain_device(const DrainArguments& arguments, const Globals& globals) {
  const StatusOr<std::string> node = node_of_device(globals);
  if (!node.ok()) return report_failure(globals, "tier drain", node.status());
  proto::DrainDeviceRequest request;
  request.set_place(arguments.device);
  request.set_undo(arguments.undo);
  const auto done =
      admin_call<proto::TierAdmin>(globals, *node, request, &proto::TierAdmin::Stub::DrainDevice);
  if (!done.ok()) return report_failure(globals, "tier drain", done.status());
  proto::EmptyDeviceProgress moved;
  if (arguments.empty) {
    const auto emptied = empty_device(globals, *node, arguments.device);
    if (!emptied.ok()) return report_failure(globals, "tier drain", emptied.status());
    moved = *emptied;
  }
  if (globals.json) {
    print_json({{"command", "tier drain"},
                {"ok", moved.failed() == 0},
                {"tier", "nvme"},
                {"device", arguments.device},
                {"undo", arguments.undo},
                {"moved", moved.moved()},
                {"failed", moved.failed()},
                {"node_id", done->node_id()}});
  } else {
    std::printf("%s: nvme device %u %s, until the node ends\n", done->node_id().c_str(),
                arguments.device,
                arguments.undo ? "gets new objects again" : "gets no new objects");
    if (arguments.empty) {
      std::printf("%s objects went to other devices, %s stay: in use, or no room\n",
                  human_count(moved.moved()).c_str(), human_count(moved.failed()).c_str());
    }
  }
  return moved.failed() == 0 ? kExitOk : kExitNo;
}
}  // namespace

void add_tier_verify(CLI::App* tier, Invocation* invocation) {
  CLI::App* command = tier->add_subcommand("verify", "Read and check a whole tier now");
  auto arguments = std::make_shared<VerifyArguments>();
  command
      ->add_option("TIER", arguments->tier,
                   "dram, nvme or shared; of shared each node of --node reads all: name one")
      ->required()
      ->check(CLI::IsMember({"dram", "nvme", "shared"}));
  command
      ->add_option("--mib-per-s", arguments->mib_per_s,
                   "At most; default: the node's scrub_mib_per_s")
      ->check(CLI::Range(1u, 1'000'000u));
  command->footer(
      examples("  terrace tier verify nvme\n"
               "  terrace tier verify dram --mib-per-s 2000 --json\n"
               "  terrace --node a:7410 tier verify shared --mib-per-s 200\n"
               "Exit code 1: damage was found. 2: none, but not everything could be checked.\n"));
  command->callback([arguments, invocation] {
    invocation->run = [arguments](const Globals& globals) {
      return run_verify(*arguments, globals);
    };
  });
}

void add_tier_drain(CLI::App* tier, Invocation* invocation) {
  CLI::App* command = tier->add_subcommand("drain", "Before a maintenance: of a tier or a device");
  auto arguments = std::make_shared<DrainArguments>();
  command
      ->add_option("TIER", arguments->tier,
                   "dram: its objects stay, and are on nvme too; nvme: no new objects on a device")
      ->required()
      ->check(CLI::IsMember({"dram", "nvme"}));
  CLI::Option* const device = command->add_option(
      "--device", arguments->device, "Of nvme: its number in tier status; on one node");
  device->check(CLI::Range(0, 65535));
  CLI::Option* const undo =
      command->add_flag("--undo", arguments->undo, "Of nvme: it gets new objects again");
  command
      ->add_flag("--empty", arguments->empty,
                 "Of nvme: move what it has to the other devices, by way of dram")
      ->excludes(undo);
  command->footer(
      examples("  terrace tier drain dram\n"
               "  terrace tier drain nvme --device 1 --empty\n"
               "  terrace tier drain nvme --device 1 --undo\n"));
  command->callback([=] {
    const bool nvme = arguments->tier == "nvme";
    if (nvme != (device->count() > 0) || ((arguments->undo || arguments->empty) && !nvme)) {
      throw CLI::ValidationError("drain", "nvme goes with --device, dram with nothing");
    }
    invocation->run = [=](const Globals& globals) {
      return nvme ? run_drain_device(*arguments, globals) : run_drain(globals);
    };
  });
}
}  // namespace terrace
