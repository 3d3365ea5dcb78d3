// `terrace tier trim`: tells the devices of nvme which of their space is free.
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
using TrimmedDevice = proto::TrimDevicesProgress::Device;

struct TrimArguments {
  std::string tier;
  uint32_t device = 0;
  bool one = false;
};

/// One pass of one node; its last word.
StatusOr<proto::TrimDevicesProgress> trim_on(const Globals& globals, const std::string& node,
                                             const TrimArguments& arguments) {
  TERRACE_ASSIGN_OR_RETURN(const AdminCall call, begin_admin_call(globals, node, true));
  const auto stub = proto::TierAdmin::NewStub(call.channel);
  proto::TrimDevicesRequest request;
  if (arguments.one) request.set_place(arguments.device);
  const auto stream = stub->TrimDevices(call.context.get(), request);
  proto::TrimDevicesProgress step;
  Progress bar("trim", 0, !globals.json);
  while (stream->Read(&step)) {
    uint64_t bytes = 0;
    for (const TrimmedDevice& device : step.devices()) bytes += device.bytes();
    bar.show(bytes, human_bytes(bytes));
  }
  TERRACE_RETURN_IF_ERROR(end_of_stream(stream->Finish(), step.over(), node));
  return step;
}

/// Whether all of the device's free space was trimmed.
bool show(const TrimmedDevice& device, const std::string& node_id, bool json, Json* devices) {
  const bool ok = device.code() == static_cast<int32_t>(StatusCode::kOk);
  devices->push_back({{"device", device.place()},
                      {"path", device.path()},
                      {"bytes", device.bytes()},
                      {"ok", ok},
                      {"error", device.message()}});
  if (!json) {
    std::printf("%s: nvme device %u (%s): %s trimmed%s%s\n", node_id.c_str(), device.place(),
                device.path().c_str(), human_bytes(device.bytes()).c_str(), ok ? "" : "; ",
                device.message().c_str());
  }
  return ok;
}

int run_trim(const TrimArguments& arguments, const Globals& globals) {
  if (arguments.one) {
    const Status one = node_of_device(globals).status();
    if (!one.ok()) return report_failure(globals, "tier trim", one);
  }
  Json nodes = Json::array();
  bool ok = true;
  for (const std::string& node : node_names(globals)) {
    const auto done = trim_on(globals, node, arguments);
    if (!done.ok()) return report_failure(globals, "tier trim", done.status());
    Json devices = Json::array();
    for (const TrimmedDevice& device : done->devices()) {
      ok &= show(device, done->node_id(), globals.json, &devices);
    }
    nodes.push_back({{"node_id", done->node_id()}, {"devices", devices}});
  }
  if (globals.json) {
    print_json({{"command", "tier trim"}, {"ok", ok}, {"tier", "nvme"}, {"nodes", nodes}});
  }
  return ok ? kExitOk : kExitNo;
}
}  // namespace

void add_tier_trim(CLI::App* tier, Invocation* invocation) {
  CLI::App* command = tier->add_subcommand("trim", "Tell block devices which space is free");
  auto arguments = std::make_shared<TrimArguments>();
  command->add_option("TIER", arguments->tier, "nvme")->required()->check(CLI::IsMember({"nvme"}));
  CLI::Option* const device = command->add_option(
      "--device", arguments->device, "Only this one: its number in tier status; on one node");
  device->check(CLI::Range(0, 65535));
  command->footer(
      examples("  terrace tier trim nvme\n"
               "  terrace tier trim nvme --device 1 --json\n"));
  command->callback([=] {
    arguments->one = device->count() > 0;
    invocation->run = [arguments](const Globals& globals) { return run_trim(*arguments, globals); };
  });
}
}  // namespace terrace
