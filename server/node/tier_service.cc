#include "server/node/tier_service.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <future>
#include <limits>
#include <optional>
#include <utility>

#include "base/limits.h"
#include "base/log.h"
#include "proto/message_kind.h"
#include "proto/tiers.grpc.pb.h"
#include "server/node/call_service.h"
#include "server/node/scan_turns.h"
#include "server/node/tier_reports.h"
#include "storage/clear_scan.h"
#include "storage/tier_pass.h"

namespace terrace {
namespace {

constexpr Nanos kTellPeriod = milliseconds(100);
constexpr Nanos kPatience = seconds(60);  // with the loop; the caller's deadline ends sooner
constexpr int kWaitingMax = 8;            // moves and pins at once: each has a thread
constexpr int kClearsMax = 4;             // at once: each has a thread, and scans the index

StatusOr<Tier> tier_of(const std::string& text) {
  for (const Tier tier : {Tier::dram, Tier::nvme, Tier::shared}) {
    if (text == name_of(tier)) return tier;
  }
  return error(StatusCode::kInvalidArgument, "tier \"" + text + "\": dram, nvme or shared");
}

StatusOr<uint16_t> place_of(uint32_t number) {
  if (number <= std::numeric_limits<uint16_t>::max()) return static_cast<uint16_t>(number);
  return error(StatusCode::kNotFound, "device " + std::to_string(number) + ": there is none");
}

/// So that whoever waits for the loop does not keep it busy.
void pause() {
  constexpr milliseconds kPause{5};
  std::promise<void> never;
  (void)never.get_future().wait_for(kPause);
}

/// One of the calls of a kind that run at once.
class Running {
 public:
  explicit Running(std::atomic<int>* calls) : calls_(calls), before_((*calls)++) {}
  ~Running() { --*calls_; }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  /// kResourceExhausted: `most` of them run already; `what` they do.
  Status check(int most, const std::string& what) const {
    if (before_ < most) return ok_status();
    return error(StatusCode::kResourceExhausted, std::to_string(most) + " calls that " + what +
                                                     " run on this node, the limit: try again");
  }

 private:
  std::atomic<int>* const calls_;
  const int before_;
};

/// Objects that a call names, of a namespace that is the caller's.
struct Named {
  NamespaceId ns{};
  std::vector<ChunkKey> keys;
};

class TierService final : public proto::TierAdmin::Service {
 public:
  TierService(NodeContext* context, std::string node_id)
      : context_(context), node_id_(std::move(node_id)) {}

  grpc::Status Explain(grpc::ServerContext* call, const proto::ExplainRequest* request,
                       proto::ExplainReply* reply) override {
    return to_grpc(explain(*call, *request, reply));
  }
  grpc::Status SetPin(grpc::ServerContext* call, const proto::SetPinRequest* request,
                      proto::ObjectsReply* reply) override {
    return to_grpc(set_pin(*call, *request, reply));
  }
  grpc::Status Move(grpc::ServerContext* call, const proto::MoveRequest* request,
                    proto::ObjectsReply* reply) override {
    return to_grpc(move(*call, *request, reply));
  }
  grpc::Status Clear(grpc::ServerContext* call, const proto::ClearRequest* request,
                     grpc::ServerWriter<proto::ClearProgress>* writer) override {
    return to_grpc(clear(*call, *request, writer));
  }
  grpc::Status Verify(grpc::ServerContext* call, const proto::VerifyRequest* request,
                      grpc::ServerWriter<proto::VerifyProgress>* writer) override {
    return to_grpc(verify(*call, *request, writer));
  }
  grpc::Status DrainDram(grpc::ServerContext* call, const proto::DrainDramRequest*,
                         grpc::ServerWriter<proto::DrainDramProgress>* writer) override {
    return to_grpc(drain_dram(*call, writer));
  }
  grpc::Status DrainDevice(grpc::ServerContext* call, const proto::DrainDeviceRequest* request,
                           proto::DrainDeviceReply* reply) override {
    return to_grpc(drain_device(*call, *request, reply));
  }
  grpc::Status EmptyDevice(grpc::ServerContext* call, const proto::EmptyDeviceRequest* request,
                           grpc::ServerWriter<proto::EmptyDeviceProgress>* writer) override {
    return to_grpc(empty_device(*call, *request, writer));
  }
  grpc::Status TrimDevices(grpc::ServerContext* call, const proto::TrimDevicesRequest* request,
                           grpc::ServerWriter<proto::TrimDevicesProgress>* writer) override {
    return to_grpc(trim_devices(*call, *request, writer));
  }
  grpc::Status Resize(grpc::ServerContext* call, const proto::ResizeRequest* request,
                      grpc::ServerWriter<proto::ResizeProgress>* writer) override {
    return to_grpc(resize(*call, *request, writer));
  }
  grpc::Status TierStatus(grpc::ServerContext* call, const proto::TierStatusRequest*,
                          proto::TierStatusReply* reply) override {
    return to_grpc(status(*call, reply));
  }

 private:
  StatusOr<Named> named(const grpc::ServerContext& call, const proto::ObjectsOf& objects) const {
    std::string tenant;
    TERRACE_RETURN_IF_ERROR(authenticate(*context_->config, call, objects.tenant(), &tenant));
    const auto ns = context_->namespaces->find(tenant, objects.name());
    if (ns == nullptr) {
      return error(StatusCode::kNotFound, "no namespace \"" + objects.name() + "\" of tenant \"" +
                                              tenant + "\" on this node");
    }
    TERRACE_ASSIGN_OR_RETURN(const auto keys, view_keys(objects.keys(), kKeysPerRequestMax));
    return Named{ns->id, {keys.begin(), keys.end()}};
  }

  Status explain(const grpc::ServerContext& call, const proto::ExplainRequest& request,
                 proto::ExplainReply* reply) const {
    TERRACE_ASSIGN_OR_RETURN(const Named object, named(call, request.object()));
    if (object.keys.size() != 1) {
      return error(StatusCode::kInvalidArgument,
                   "explain of " + std::to_string(object.keys.size()) + " keys; one at a time");
    }
    auto said = on_loop(context_->loop, [context = context_, object] {
      return explain_reply(*context, object.ns, object.keys[0]);
    });
    if (!said.ok()) return said.status();
    *reply = *std::move(said);
    reply->set_node_id(node_id_);
    return ok_status();
  }

  /// `start(i, then)` for each of the objects, and what became of them.
  Status each(const grpc::ServerContext& call, const Named& objects,
              std::function<void(size_t, LoopThen)> start, proto::ObjectsReply* reply) const {
    if (objects.keys.empty()) return error(StatusCode::kInvalidArgument, "no keys: name some");
    const Running running(&waiting_);
    TERRACE_RETURN_IF_ERROR(running.check(kWaitingMax, "pin or move"));
    const auto wanted = [&call, this] { return !call.IsCancelled() && !context_->draining; };
    TERRACE_ASSIGN_OR_RETURN(
        const std::vector<Status> results,
        each_on_loop(context_->loop, objects.keys.size(), kPatience, wanted, std::move(start)));
    for (const Status& each : results) {
      proto::ObjectsReply::Result* const result = reply->add_results();
      result->set_code(static_cast<int32_t>(each.code()));
      result->set_message(each.message());
    }
    reply->set_node_id(node_id_);
    return ok_status();
  }

  Status set_pin(const grpc::ServerContext& call, const proto::SetPinRequest& request,
                 proto::ObjectsReply* reply) const {
    TERRACE_ASSIGN_OR_RETURN(const Named objects, named(call, request.objects()));
    const auto start = [context = context_, objects, pin = request.pin()](size_t i, LoopThen then) {
      context->store->set_pin(objects.ns, objects.keys[i], pin, context->pinned_quota(),
                              std::move(then));
    };
    return each(call, objects, start, reply);
  }

  Status move(const grpc::ServerContext& call, const proto::MoveRequest& request,
              proto::ObjectsReply* reply) const {
    TERRACE_ASSIGN_OR_RETURN(const Tier to, tier_of(request.to()));
    TERRACE_ASSIGN_OR_RETURN(const Named objects, named(call, request.objects()));
    const auto start = [context = context_, objects, to](size_t i, LoopThen then) {
      context->store->move(objects.ns, objects.keys[i], to, std::move(then));
    };
    return each(call, objects, start, reply);
  }

  Status clear(const grpc::ServerContext& call, const proto::ClearRequest& request,
               grpc::ServerWriter<proto::ClearProgress>* writer) const {
    std::optional<Tier> tier;
    if (!request.tier().empty()) {
      TERRACE_ASSIGN_OR_RETURN(tier, tier_of(request.tier()));
    }
    TERRACE_ASSIGN_OR_RETURN(const Named objects, named(call, request.objects()));
    const Running running(&clears_);
    TERRACE_RETURN_IF_ERROR(running.check(kClearsMax, "clear"));
    const auto scan = std::make_shared<ClearScan>();
    scan->ns = objects.ns;
    scan->tier = tier;
    scan->only = objects.keys;
    spdlog::info("event=clear ns={} tier={} keys={}", static_cast<uint32_t>(objects.ns),
                 tier ? name_of(*tier) : "all", objects.keys.size());
    return watch<proto::ClearProgress>(call, writer, [context = context_, scan] {
      const bool over = context->store->clear_step(scan.get());
      proto::ClearProgress now;
      now.set_cleared(scan->cleared);
      now.set_bytes(scan->bytes);
      now.set_kept(scan->kept);
      now.set_failed(scan->failed);
      now.set_over(over);
      return now;
    });
  }

  /// What `ask` says on the loop.
  Status loop_says(std::function<Status()> ask) const {
    TERRACE_ASSIGN_OR_RETURN(
        const std::vector<Status> said,
        each_on_loop(context_->loop, 1, kLoopAnswerTimeout, nullptr,
                     [ask = std::move(ask)](size_t, const LoopThen& then) { then(ask()); }));
    return said[0];
  }

  /// What `step` says on the loop, when its turn has come among all that scan the index.
  template <class Progress>
  StatusOr<Progress> in_turn(const grpc::ServerContext& call,
                             const std::function<Progress()>& step) const {
    const auto said = std::make_shared<Progress>();
    const auto start = [context = context_, said, step](size_t, LoopThen then) {
      context->scans->wait([said, step, then = std::move(then)] {
        *said = step();
        then(ok_status());
      });
    };
    const auto wanted = [&call, this] { return !call.IsCancelled() && !context_->draining; };
    const auto over = each_on_loop(context_->loop, 1, kPatience, wanted, start);
    if (!over.ok()) return over.status();
    return std::move(*said);
  }

  /// Has the loop take `step` after step, and tells how far it is, until it is over or the caller
  /// is gone.
  template <class Progress>
  Status watch(const grpc::ServerContext& call, grpc::ServerWriter<Progress>* writer,
               const std::function<Progress()>& step) const {
    Nanos told{0};
    for (bool over = false; !over && !call.IsCancelled() && !context_->draining;) {
      TERRACE_ASSIGN_OR_RETURN(Progress now, in_turn(call, step));
      over = now.over();
      if (over || context_->loop->now() - told >= kTellPeriod) {
        told = context_->loop->now();
        now.set_node_id(node_id_);
        if (!writer->Write(now)) break;
      }
      if (!over) pause();
    }
    return ok_status();
  }

  /// Has the loop begin a pass, and tells how far it is. When that ends for whatever reason, the
  /// pass is called off, also one that the loop began too late.
  template <class Progress, class Pass>
  Status run(const grpc::ServerContext& call, grpc::ServerWriter<Progress>* writer,
             const std::shared_ptr<Pass>& pass, Status (ChunkStore::*begin)(std::shared_ptr<Pass>),
             Progress (*progress)(const Pass&)) const {
    Status result =
        loop_says([context = context_, pass, begin] { return (context->store->*begin)(pass); });
    if (result.ok()) {
      result = watch<Progress>(call, writer, [pass, progress] { return progress(*pass); });
    }
    (void)context_->loop->post([pass] { pass->cancelled = true; });
    return result;
  }

  Status verify(const grpc::ServerContext& call, const proto::VerifyRequest& request,
                grpc::ServerWriter<proto::VerifyProgress>* writer) const {
    TERRACE_RETURN_IF_ERROR(authenticate_admin(*context_->config, call));
    const auto pass = std::make_shared<VerifyPass>();
    TERRACE_ASSIGN_OR_RETURN(pass->tier, tier_of(request.tier()));
    const uint32_t usual = std::max(1u, context_->config->store.scrub_mib_per_s);
    pass->mib_per_s = request.mib_per_s() == 0 ? usual : request.mib_per_s();
    return run(call, writer, pass, &ChunkStore::verify, &verify_progress);
  }

  Status drain_dram(const grpc::ServerContext& call,
                    grpc::ServerWriter<proto::DrainDramProgress>* writer) const {
    TERRACE_RETURN_IF_ERROR(authenticate_admin(*context_->config, call));
    if (context_->config->store.data_directory.empty()) {
      return error(StatusCode::kUnavailable, "drain: no nvme tier here to write to");
    }
    const auto pass = std::make_shared<DrainPass>();
    return watch<proto::DrainDramProgress>(call, writer, [context = context_, pass] {
      proto::DrainDramProgress now;
      now.set_over(context->store->drain_step(pass.get()));
      now.set_written(pass->done);
      now.set_failed(pass->failed);
      return now;
    });
  }

  Status drain_device(const grpc::ServerContext& call, const proto::DrainDeviceRequest& request,
                      proto::DrainDeviceReply* reply) const {
    TERRACE_RETURN_IF_ERROR(authenticate_admin(*context_->config, call));
    TERRACE_ASSIGN_OR_RETURN(const uint16_t place, place_of(request.place()));
    reply->set_node_id(node_id_);
    return loop_says([context = context_, place, undo = request.undo()] {
      return undo ? context->store->undrain(place) : context->store->drain_device(place);
    });
  }

  Status empty_device(const grpc::ServerContext& call, const proto::EmptyDeviceRequest& request,
                      grpc::ServerWriter<proto::EmptyDeviceProgress>* writer) const {
    TERRACE_RETURN_IF_ERROR(authenticate_admin(*context_->config, call));
    const auto pass = std::make_shared<EmptyPass>();
    TERRACE_ASSIGN_OR_RETURN(pass->place, place_of(request.place()));
    TERRACE_RETURN_IF_ERROR(loop_says([context = context_, place = pass->place]() -> Status {
      for (const DeviceStatus& device : context->store->devices()) {
        if (device.place == place && device.health == DeviceHealth::draining) return ok_status();
      }
      return error(StatusCode::kFailedPrecondition,
                   "device " + std::to_string(place) + " does not drain: drain it first");
    }));
    return watch<proto::EmptyDeviceProgress>(call, writer, [context = context_, pass] {
      proto::EmptyDeviceProgress now;
      now.set_over(context->store->empty_step(pass.get()));
      now.set_moved(pass->done);
      now.set_failed(pass->failed);
      return now;
    });
  }

  Status trim_devices(const grpc::ServerContext& call, const proto::TrimDevicesRequest& request,
                      grpc::ServerWriter<proto::TrimDevicesProgress>* writer) const {
    TERRACE_RETURN_IF_ERROR(authenticate_admin(*context_->config, call));
    const auto pass = std::make_shared<TrimPass>();
    if (request.has_place()) {
      TERRACE_ASSIGN_OR_RETURN(pass->place, place_of(request.place()));
    }
    return run(call, writer, pass, &ChunkStore::trim, &trim_progress);
  }

  Status resize(const grpc::ServerContext& call, const proto::ResizeRequest& request,
                grpc::ServerWriter<proto::ResizeProgress>* writer) const {
    TERRACE_RETURN_IF_ERROR(authenticate_admin(*context_->config, call));
    const auto pass = std::make_shared<ResizePass>();
    pass->tier = Tier::hbm;
    if (request.tier() != name_of(Tier::hbm)) {
      TERRACE_ASSIGN_OR_RETURN(pass->tier, tier_of(request.tier()));
    }
    if ((pass->tier == Tier::nvme) != request.has_place()) {
      return error(StatusCode::kInvalidArgument, "resize: of nvme a device, of others none");
    }
    TERRACE_ASSIGN_OR_RETURN(pass->place, place_of(request.place()));
    pass->target = request.bytes();
    return run(call, writer, pass, &ChunkStore::resize, &resize_progress);
  }

  Status status(const grpc::ServerContext& call, proto::TierStatusReply* reply) const {
    std::string tenant;
    TERRACE_RETURN_IF_ERROR(authenticate(*context_->config, call, "", &tenant));
    auto said =
        on_loop(context_->loop, [context = context_] { return tier_status_reply(*context); });
    if (!said.ok()) return said.status();
    *reply = *std::move(said);
    reply->set_node_id(node_id_);
    return ok_status();
  }

  NodeContext* const context_;
  const std::string node_id_;
  mutable std::atomic<int> waiting_{0};  // calls that pin or move
  mutable std::atomic<int> clears_{0};
};
}  // namespace

std::unique_ptr<grpc::Service> make_tier_service(NodeContext* context, std::string node_id) {
  return std::make_unique<TierService>(context, std::move(node_id));
}
}  // namespace terrace
