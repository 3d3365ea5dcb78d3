#include "tools/cli/demo_tier_rig.h"

#include <filesystem>
#include <future>
#include <system_error>

#include "proto/message_kind.h"
#include "proto/tiers.grpc.pb.h"
#include "tools/cli/admin_call.h"
#include "tools/cli/connection.h"
#include "tools/cli/content.h"

namespace terrace {
namespace {
constexpr uint64_t kSeed = 20;

Status outcome_of(const proto::ObjectsReply& reply) {
  if (reply.results_size() != 1) return error(StatusCode::kInternal, "no answer for the key");
  return error(status_code_of(reply.results(0).code()), reply.results(0).message());
}
}  // namespace

std::string tiers_of(const proto::ExplainReply& said) {
  std::string text;
  for (const auto& copy : said.copies()) text += (text.empty() ? "" : ", ") + copy.tier();
  return text.empty() ? "none" : text;
}

StatusOr<std::unique_ptr<TierRig>> TierRig::start(const std::string& directory) {
  TERRACE_ASSIGN_OR_RETURN(TemporaryDirectory scratch,
                           TemporaryDirectory::create("tiers", directory));
  std::unique_ptr<TierRig> rig(new TierRig(std::move(scratch)));
  const std::string root = rig->directory_.path();
  std::error_code failed;
  std::filesystem::create_directory(root + "/shared", failed);
  if (failed) return error(StatusCode::kUnavailable, root + "/shared: " + failed.message());
  rig->options_.data_directory = root + "/data";
  rig->options_.log_file = root + "/node.log";
  rig->options_.dram_bytes = kDramBytes;
  rig->options_.nvme_bytes = kNvmeBytes;
  // lru: a minute of five dozen objects teaches the other policy nothing, and what sinks should be
  // what was used longest ago.
  rig->options_.flags = {"--policy",
                         "lru",
                         "--slab-bytes",
                         "8MiB",
                         "--shared-directory",
                         root + "/shared",
                         "--shared-bytes-max",
                         "1GiB",
                         "--shared-list-period-ms",
                         "200",
                         "--warm-restart",
                         "keeper",
                         "--keeper-linger-s",
                         "10",
                         "--scrub-period-s",
                         "0",
                         "--promote-hits",
                         "1",
                         "--namespace-pinned-bytes-max",
                         std::to_string(kPinnedMax)};
  TERRACE_RETURN_IF_ERROR(rig->launch());
  // So that clients find the next one where the first one was.
  rig->options_.flags.push_back("--control-port");
  rig->options_.flags.push_back(std::to_string(rig->node_.control_port()));
  return rig;
}

Status TierRig::launch() {
  mover_.reset();
  TERRACE_ASSIGN_OR_RETURN(node_, LocalNode::start(options_));
  globals_.node = node_.endpoint();
  TERRACE_ASSIGN_OR_RETURN(FileMover mover, FileMover::open(globals_, kFilesNamespace));
  mover_.emplace(std::move(mover));
  return ok_status();
}

StatusOr<Nanos> TierRig::kill_and_restart() {
  const SystemClock clock;
  const Nanos killed = clock.now();
  node_.kill();
  TERRACE_RETURN_IF_ERROR(launch());
  return clock.now() - killed;
}

Status TierRig::put(const std::string& name, Durability durability, const Retention& retention) {
  return mover_->put_content(content_seed(name, kSeed), kObjectBytes, name, durability, retention);
}

StatusOr<TierRig::Read> TierRig::get(const std::string& name) {
  TERRACE_ASSIGN_OR_RETURN(const ChunkKey key, key_for(mover_->client(), mover_->ns(), name));
  Read read;
  uint64_t at = 0;
  TERRACE_RETURN_IF_ERROR(mover_->get(
      key, kObjectBytes,
      [&](std::span<const std::byte> bytes) {
        read.wrong_bytes += count_differences(content_seed(name, kSeed), at, bytes);
        at += bytes.size();
        return ok_status();
      },
      &read.tier_bytes));
  read.wrong_bytes += kObjectBytes - at;
  return read;
}

Status TierRig::erase(const std::string& name) {
  TERRACE_ASSIGN_OR_RETURN(const ChunkKey key, key_for(mover_->client(), mover_->ns(), name));
  return mover_->erase(key);
}

StatusOr<proto::ObjectsOf> TierRig::object(const std::string& name) {
  TERRACE_ASSIGN_OR_RETURN(const ChunkKey key, key_for(mover_->client(), mover_->ns(), name));
  proto::ObjectsOf out;
  out.set_tenant(globals_.tenant);
  out.set_name(kFilesNamespace);
  out.set_keys(pack_keys({&key, 1}));
  return out;
}

StatusOr<proto::ExplainReply> TierRig::explain(const std::string& name) {
  proto::ExplainRequest request;
  TERRACE_ASSIGN_OR_RETURN(*request.mutable_object(), object(name));
  return admin_call<proto::TierAdmin>(globals_, globals_.node, request,
                                      &proto::TierAdmin::Stub::Explain);
}

StatusOr<proto::TierStatusReply> TierRig::tiers() {
  return admin_call<proto::TierAdmin>(globals_, globals_.node, proto::TierStatusRequest(),
                                      &proto::TierAdmin::Stub::TierStatus);
}

Status TierRig::pin(const std::string& name, bool pin) {
  proto::SetPinRequest request;
  TERRACE_ASSIGN_OR_RETURN(*request.mutable_objects(), object(name));
  request.set_pin(pin);
  TERRACE_ASSIGN_OR_RETURN(const proto::ObjectsReply reply,
                           admin_call<proto::TierAdmin>(globals_, globals_.node, request,
                                                        &proto::TierAdmin::Stub::SetPin));
  return outcome_of(reply);
}

Status TierRig::move(const std::string& name, const std::string& to) {
  proto::MoveRequest request;
  TERRACE_ASSIGN_OR_RETURN(*request.mutable_objects(), object(name));
  request.set_to(to);
  TERRACE_ASSIGN_OR_RETURN(const proto::ObjectsReply reply,
                           admin_call<proto::TierAdmin>(globals_, globals_.node, request,
                                                        &proto::TierAdmin::Stub::Move));
  return outcome_of(reply);
}

StatusOr<proto::ClearProgress> TierRig::clear() {
  TERRACE_ASSIGN_OR_RETURN(const AdminCall call, begin_admin_call(globals_, globals_.node));
  const auto stub = proto::TierAdmin::NewStub(call.channel);
  proto::ClearRequest request;
  request.mutable_objects()->set_tenant(globals_.tenant);
  request.mutable_objects()->set_name(kFilesNamespace);
  const auto stream = stub->Clear(call.context.get(), request);
  proto::ClearProgress progress;
  while (stream->Read(&progress)) {
  }
  TERRACE_RETURN_IF_ERROR(from_grpc(stream->Finish(), globals_.node));
  return progress;
}

void TierRig::pause() const {
  constexpr milliseconds kPause{20};
  std::promise<void> never;
  (void)never.get_future().wait_for(kPause);
}
}  // namespace terrace
