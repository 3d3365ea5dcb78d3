#include "transport/rdma_lane.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/check.h"
#include "base/prng.h"

namespace terrace {
namespace {

constexpr uint32_t kInlineBytes = 220;
constexpr uint8_t kRetries = 6;        // 7 is for ever with some drivers
constexpr uint8_t kReceiverWait = 20;  // 10 ms, encoded
constexpr uint32_t kTellEvery = 16;    // requests, so that the queue's places come back

Status verbs_error(const std::string& what) {
  return error(StatusCode::kUnavailable, what + ": " + std::strerror(errno));
}

/// The packet timeout t (4.096 us * 2^t) with which all retries together take at most `limit`.
uint8_t timeout_exponent(Nanos limit) {
  const int64_t unit = limit.count() / (4096 * (kRetries + 1));
  const auto t = static_cast<int>(std::bit_width(static_cast<uint64_t>(unit))) - 1;
  return static_cast<uint8_t>(std::clamp(t, 8, 22));
}

ibv_ah_attr way_to(const RdmaDevice& device, const RdmaPathEndpoint& to) {
  ibv_ah_attr out{};
  out.port_num = device.port();
  out.dlid = to.lid;
  if (!device.address().ethernet) return out;
  out.is_global = 1;
  std::memcpy(out.grh.dgid.raw, to.gid.data(), to.gid.size());
  out.grh.sgid_index = device.gid_index();
  out.grh.hop_limit = 64;
  return out;
}
}  // namespace

/// The kernel resolves the address of a handle as it does that of a queue pair.
Status find_ways(std::span<const std::unique_ptr<RdmaDevice>> devices,
                 const std::string& endpoint) {
  TERRACE_ASSIGN_OR_RETURN(const RdmaEndpoint to, decode_rdma_endpoint(endpoint));
  for (size_t i = 0; i < std::min(devices.size(), to.paths.size()); ++i) {
    ibv_ah_attr way = way_to(*devices[i], to.paths[i]);
    const VerbsAddress found(ibv_create_ah(devices[i]->domain(), &way));
    if (!found) return verbs_error("finding the way to a peer's port from " + devices[i]->name());
  }
  return ok_status();
}

StatusOr<std::unique_ptr<RdmaLane>> RdmaLane::create(RdmaDevice* device, Kind kind,
                                                     uint32_t serial) {
  auto lane = std::unique_ptr<RdmaLane>(new RdmaLane(device, kind, serial));
  TERRACE_RETURN_IF_ERROR(lane->initialize());
  return lane;
}

Status RdmaLane::initialize() {
  std::array<std::byte, 4> random{};
  secure_random(random);
  std::memcpy(&psn_, random.data(), sizeof(psn_));
  psn_ &= 0xFFFFFF;
  depth_ = kind_ == Kind::message ? kMessageDepth : kDataDepth;
  ibv_qp_init_attr attributes{};
  attributes.qp_type = IBV_QPT_RC;
  attributes.send_cq = device_->completions();
  attributes.recv_cq = device_->completions();
  attributes.cap.max_send_wr = depth_;
  attributes.cap.max_send_sge =
      kind_ == Kind::message
          ? 1
          : std::min(kPiecesMax, static_cast<uint32_t>(std::max(1, device_->limits().max_sge)));
  attributes.cap.max_inline_data = kind_ == Kind::message ? kInlineBytes : 0;
  if (kind_ == Kind::message) {
    attributes.srq = device_->receives();
  } else {
    attributes.cap.max_recv_wr = kImmediatesPosted;
    attributes.cap.max_recv_sge = 1;
  }
  qp_.reset(ibv_create_qp(device_->domain(), &attributes));
  if (!qp_ && attributes.cap.max_inline_data > 0) {
    attributes.cap.max_inline_data = 0;
    qp_.reset(ibv_create_qp(device_->domain(), &attributes));
  }
  if (!qp_) {
    return error(StatusCode::kResourceExhausted,
                 "no queue pair on " + device_->name() + ": " + std::strerror(errno));
  }
  inline_max_ = attributes.cap.max_inline_data;
  pieces_max_ = std::min(attributes.cap.max_send_sge, kPiecesMax);
  ibv_qp_attr init{};
  init.qp_state = IBV_QPS_INIT;
  init.port_num = device_->port();
  init.qp_access_flags = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ;
  if (ibv_modify_qp(qp_.get(), &init,
                    IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS) != 0) {
    return verbs_error("initializing a queue pair on " + device_->name());
  }
  if (kind_ == Kind::data) {
    for (uint32_t i = 0; i < kImmediatesPosted; ++i) replace_receive();
  }
  return ok_status();
}

Status RdmaLane::connect(const RdmaPathEndpoint& to, uint32_t qpn, uint32_t psn,
                         Nanos dead_peer_timeout) {
  const RdmaPathEndpoint here = device_->address();
  ibv_qp_attr receive{};
  receive.qp_state = IBV_QPS_RTR;
  receive.path_mtu = static_cast<ibv_mtu>(std::min(here.mtu, to.mtu));
  receive.dest_qp_num = qpn;
  receive.rq_psn = psn;
  receive.max_dest_rd_atomic = here.reads_max;
  receive.min_rnr_timer = kReceiverWait;
  receive.ah_attr = way_to(*device_, to);
  if (ibv_modify_qp(qp_.get(), &receive,
                    IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                        IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER) != 0) {
    return verbs_error("connecting a queue pair on " + device_->name());
  }
  ibv_qp_attr send{};
  send.qp_state = IBV_QPS_RTS;
  send.sq_psn = psn_;
  send.timeout = timeout_exponent(dead_peer_timeout);
  send.retry_cnt = kRetries;
  send.rnr_retry = kRetries;
  send.max_rd_atomic = static_cast<uint8_t>(
      std::min<int>(to.reads_max, std::clamp(device_->limits().max_qp_init_rd_atom, 1, 255)));
  if (ibv_modify_qp(qp_.get(), &send,
                    IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
                        IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC) != 0) {
    return verbs_error("connecting a queue pair on " + device_->name());
  }
  return ok_status();
}

Status RdmaLane::post(ibv_send_wr* request, bool tell, uint64_t transfer) {
  TERRACE_CHECK(room() > 0);
  const uint64_t last_told = markers_.empty() ? completed_ : markers_.back().upto;
  tell = tell || posted_ + 1 - last_told >= kTellEvery;
  request->wr_id = uint64_t{serial_} << 32;
  if (tell) request->send_flags |= IBV_SEND_SIGNALED;
  ibv_send_wr* bad = nullptr;
  if (ibv_post_send(qp_.get(), request, &bad) != 0) {
    return verbs_error("posting on " + device_->name());
  }
  ++posted_;
  if (tell) markers_.push_back({.upto = posted_, .transfer = transfer});
  return ok_status();
}

std::optional<RdmaLane::Marker> RdmaLane::sent() {
  if (markers_.empty()) return std::nullopt;
  const Marker marker = markers_.front();
  markers_.pop_front();
  completed_ = marker.upto;
  return marker;
}

void RdmaLane::replace_receive() {
  ibv_recv_wr request{};
  request.wr_id = uint64_t{serial_} << 32;
  ibv_recv_wr* bad = nullptr;
  (void)ibv_post_recv(qp_.get(), &request, &bad);  // a queue pair in error needs none
}
}  // namespace terrace
