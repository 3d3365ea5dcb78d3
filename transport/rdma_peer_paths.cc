// The queue pairs of a peer: made, replaced, given up; what is found out about them.
#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "transport/rdma_peer.h"

namespace terrace {
namespace {

constexpr uint32_t kFramesPosted = kRdmaFrameWindow + 8;  // of one path, at this side
constexpr uint32_t kNumberMax = 0xFFFFFF;
/// A data lane that is lost so often without moving a byte in between is not worth another.
constexpr uint32_t kResetsMax = 16;

Status broken(const char* what) {
  return error(StatusCode::kInvalidArgument, what);
}
}  // namespace

Status RdmaPeer::make_paths(size_t paths) {
  TERRACE_ASSIGN_OR_RETURN(frames_,
                           AlignedBuffer::allocate((kRdmaFrameWindow + 4) * kRdmaFrameBytes));
  for (size_t i = 0; i < paths; ++i) {
    Path path;
    path.device = shared_->devices[i].get();
    TERRACE_ASSIGN_OR_RETURN(path.frames,
                             path.device->register_memory(frames_.span(), IBV_ACCESS_LOCAL_WRITE));
    TERRACE_RETURN_IF_ERROR(
        path.device->reserve(RdmaLane::kCompletions + kFramesPosted, kFramesPosted));
    shared_->metrics.paths_up.add();
    paths_.push_back(std::move(path));  // from here on drop_path() takes it back
    TERRACE_ASSIGN_OR_RETURN(paths_[i].message, make_lane(i, RdmaLane::Kind::message));
    TERRACE_ASSIGN_OR_RETURN(paths_[i].data, make_lane(i, RdmaLane::Kind::data));
  }
  return ok_status();
}

RdmaEndpoint RdmaPeer::endpoint() const {
  RdmaEndpoint out;
  for (const Path& path : paths_) {
    RdmaPathEndpoint here = path.device->address();
    here.message_qpn = path.message->qpn();
    here.message_psn = path.message->psn();
    here.data_qpn = path.data->qpn();
    here.data_psn = path.data->psn();
    out.paths.push_back(here);
  }
  return out;
}

StatusOr<std::unique_ptr<RdmaLane>> RdmaPeer::make_lane(size_t path, RdmaLane::Kind kind) {
  const uint32_t serial = shared_->next_serial++ & 0x7FFFFFFF;
  TERRACE_ASSIGN_OR_RETURN(std::unique_ptr<RdmaLane> lane,
                           RdmaLane::create(paths_[path].device, kind, serial));
  shared_->lanes[serial] = {.peer = this, .path = path, .kind = kind};
  if (kind == RdmaLane::Kind::message) {
    shared_->device_lanes[path].serial_of[lane->qpn()] = serial;
  }
  return lane;
}

/// Completions of it that are still in the queue find nobody.
void RdmaPeer::drop_lane(size_t path, std::unique_ptr<RdmaLane>* lane) {
  if (*lane == nullptr) return;
  shared_->lanes.erase((*lane)->serial());
  if (lane == &paths_[path].message) shared_->device_lanes[path].serial_of.erase((*lane)->qpn());
  lane->reset();
}

void RdmaPeer::drop_path(size_t index) {
  Path& path = paths_[index];
  if (!std::exchange(path.alive, false)) return;
  path.data_connected = false;
  drop_lane(index, &path.data);
  drop_lane(index, &path.message);
  path.device->release(RdmaLane::kCompletions + kFramesPosted, kFramesPosted);
  shared_->metrics.paths_up.sub();
}

RdmaLane* RdmaPeer::data_lane(size_t path) {
  return paths_[path].data_connected ? paths_[path].data.get() : nullptr;
}

/// What was on its way goes by another path, frames and transfers, or the peer ends.
void RdmaPeer::path_lost(size_t index, const Status& why) {
  if (index >= paths_.size() || !paths_[index].alive) return;
  if (state_ != State::open && state_ != State::greeting) {
    if (state_ == State::closing) {
      drop_path(index);
      host_->schedule_finish();
    }
    return;
  }
  const bool carried_messages = message_path() == &paths_[index];
  drop_path(index);
  shared_->metrics.path_failures.add();
  if (message_path() == nullptr) return close(CloseReason::peer_closed, why, false);
  ++paths_[index].generation;
  if (carried_messages) {
    for (uint64_t sequence = acknowledged_ + 1; sequence <= sent_; ++sequence) {
      shared_->metrics.frames_again.add();
      if (!post_frame(sequence)) break;  // that path went as well, and its frames again by a third
    }
    if (state_ != State::open && state_ != State::greeting) return;
  }
  announce_loss(index);
  transfers_.lane_lost(index);
  grants_.lane_lost(index);
}

/// Not heard before the greeting is over, which says it for all that died until then.
void RdmaPeer::announce_loss(size_t index) {
  send_step({.type = RdmaRecordType::lane,
             .path = static_cast<uint8_t>(index),
             .id = paths_[index].generation},
            {}, {});
}

/// The old queue pair is destroyed and a new one made; the peer still has to be told.
void RdmaPeer::retire_data_lane(size_t index) {
  Path& path = paths_[index];
  path.data_connected = false;
  drop_lane(index, &path.data);
  ++path.generation;
  shared_->metrics.lane_resets.add();
  StatusOr<std::unique_ptr<RdmaLane>> lane = make_lane(index, RdmaLane::Kind::data);
  if (!lane.ok() || ++resets_without_progress_ > kResetsMax) {
    return path_lost(
        index, lane.ok() ? error(StatusCode::kUnavailable, "no data gets through") : lane.status());
  }
  path.data = *std::move(lane);
  send_step({.type = RdmaRecordType::lane,
             .path = static_cast<uint8_t>(index),
             .id = path.generation,
             .argument = path.data->qpn(),
             .bytes = path.data->psn()},
            {}, {});
}

void RdmaPeer::reset_lane(size_t index) {
  if (state_ != State::open || !paths_[index].data_connected) return;
  retire_data_lane(index);
  if (!paths_[index].alive) return;
  transfers_.lane_lost(index);
  grants_.lane_lost(index);
}

/// Both sides count replacements alike. One that hears of the next number makes its own and answers
/// with it; one that was first takes the answer. Two that begin at once answer each other.
Status RdmaPeer::lane_record(const RdmaRecord& record) {
  if (record.path >= paths_.size()) return broken("a lane of a path that is not there");
  Path& path = paths_[record.path];
  if (!path.alive) return ok_status();
  if (record.argument == 0) {
    path_lost(record.path, error(StatusCode::kUnavailable, "the peer gave the path up"));
    return ok_status();
  }
  if (record.argument > kNumberMax || record.bytes > kNumberMax) return broken("no such lane");
  const bool answer = record.id == path.generation && !path.data_connected;
  const bool news = record.id == uint64_t{path.generation} + 1 && path.data_connected;
  if (!answer && !news) return broken("a lane out of turn");
  if (news) {
    retire_data_lane(record.path);
    if (state_ != State::open || !path.alive) return ok_status();
  }
  const Status connected = path.data->connect(path.remote, record.argument, record.bytes,
                                              shared_->options.dead_peer_timeout);
  if (!connected.ok()) {
    path_lost(record.path, connected);
    return ok_status();
  }
  path.data_connected = true;
  if (news) {
    transfers_.lane_lost(record.path);
    grants_.lane_lost(record.path);
  } else {
    grants_.try_held();
  }
  return ok_status();
}

void RdmaPeer::completed(size_t index, RdmaLane::Kind kind, const ibv_wc& completion) {
  Path& path = paths_[index];
  if (completion.status != IBV_WC_SUCCESS) return lane_failed(index, kind, completion);
  RdmaLane& lane = kind == RdmaLane::Kind::message ? *path.message : *path.data;
  heard_ = heard_ || kind == RdmaLane::Kind::data;
  const bool received = (completion.opcode & IBV_WC_RECV) != 0;
  if (!received) {
    const std::optional<RdmaLane::Marker> marker = lane.sent();
    if (state_ == State::closing) return host_->schedule_finish();
    schedule_pump();
    if (!marker || marker->transfer == 0 || state_ != State::open) return;
    resets_without_progress_ = 0;
    return transfers_.completed(marker->transfer);
  }
  lane.replace_receive();
  if (state_ != State::open) return;
  if (completion.opcode != IBV_WC_RECV_RDMA_WITH_IMM) {
    return close(CloseReason::bad_frame, broken("a message on a data lane"));
  }
  resets_without_progress_ = 0;
  const Status status = grants_.immediate_came(index, be32toh(completion.imm_data));
  if (!status.ok()) close(CloseReason::bad_frame, status);
}

void RdmaPeer::lane_failed(size_t index, RdmaLane::Kind kind, const ibv_wc& completion) {
  const Status why = error(StatusCode::kUnavailable, paths_[index].device->name() + ": " +
                                                         ibv_wc_status_str(completion.status));
  if (state_ == State::closing || kind == RdmaLane::Kind::message) return path_lost(index, why);
  switch (completion.status) {
    case IBV_WC_RETRY_EXC_ERR:
    case IBV_WC_RNR_RETRY_EXC_ERR:
    case IBV_WC_WR_FLUSH_ERR:
      // The peer may have replaced it, which its next message says; or the path is dead, which
      // the message lane finds out.
      probe(&paths_[index]);
      return reset_lane(index);
    default:
      // A grant that is none, or a request that the peer's port does not take: trying again
      // would not help.
      return close(CloseReason::bad_frame, why);
  }
}

/// A write of no bytes: the far port acknowledges it, whatever its process does.
void RdmaPeer::probe(Path* path) {
  if (!path->alive || path->message->room() < 4) return;
  path->probe_in = shared_->options.keepalive_interval;
  ibv_send_wr request{};
  request.opcode = IBV_WR_RDMA_WRITE;
  const Status posted = path->message->post(&request, true);
  if (!posted.ok()) path_lost(static_cast<size_t>(path - paths_.data()), posted);
}

void RdmaPeer::tick(Nanos interval) {
  if (state_ != State::open) return;
  const bool waiting = !out_.empty() || transfers_.waiting();
  silent_ = waiting && !std::exchange(heard_, false) ? silent_ + interval : Nanos(0);
  if (silent_ > shared_->options.send_stall_timeout) {
    return close(CloseReason::stalled,
                 error(StatusCode::kUnavailable, "the peer stopped answering"));
  }
  for (Path& path : paths_) {
    path.probe_in -= interval;
    if (path.probe_in <= Nanos(0)) probe(&path);
    if (state_ != State::open) return;
  }
}
}  // namespace terrace
