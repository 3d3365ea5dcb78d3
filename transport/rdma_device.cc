#include "transport/rdma_device.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace terrace {
namespace {

constexpr uint64_t kFrameBit = uint64_t{1} << 63;  // of a wr_id: a buffer of ours; else a serial
constexpr uint32_t kChunkFrames = 40;
constexpr uint32_t kCompletionsAtFirst = 4096;
constexpr uint32_t kFramesMax = 16384;  // buffers of one port
constexpr int kPollBatch = 16;

Status device_error(int error_number, const std::string& what) {
  return error(StatusCode::kUnavailable, what + ": " + std::strerror(error_number));
}

bool make_nonblocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

bool is_ipv4(const ibv_gid& gid) {
  static constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
  return std::memcmp(gid.raw, kMapped, sizeof(kMapped)) == 0;
}

class RegisteredKeys final : public RdmaKeys {
 public:
  explicit RegisteredKeys(VerbsMemory memory)
      : RdmaKeys(memory.get()->lkey, memory.get()->rkey), memory_(std::move(memory)) {}

 private:
  const VerbsMemory memory_;
};

int rights_of(RdmaAccess access) {
  constexpr int kPeers = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ;
  return IBV_ACCESS_LOCAL_WRITE | (access == RdmaAccess::peers ? kPeers : 0);
}

uint8_t mtu_enum(uint32_t bytes) {
  uint8_t mtu = 1;
  while (mtu < 5 && (128u << (mtu + 1)) <= bytes) ++mtu;
  return mtu;
}
}  // namespace

class RdmaDevice::Watch final : public IoOp {
 public:
  Watch(RdmaDevice* device, int fd, void (RdmaDevice::*ready)())
      : device_(device), fd_(fd), ready_(ready) {}
  void arm() { device_->loop_->poll_readable(fd_, this); }
  void io_done(int32_t) override {
    if (device_->closing_) return device_->sink_->device_drained();
    (device_->*ready_)();
  }

 private:
  RdmaDevice* const device_;
  const int fd_;
  void (RdmaDevice::*const ready_)();
};

RdmaDevice::RdmaDevice(const RdmaOptions& options, Loop* loop, Sink* sink)
    : options_(options), loop_(loop), sink_(sink) {}

RdmaDevice::~RdmaDevice() {
  TERRACE_CHECK(!poll_scheduled_);
}

StatusOr<std::vector<std::unique_ptr<RdmaDevice>>> RdmaDevice::open_all(const RdmaOptions& options,
                                                                        Loop* loop, Sink* sink) {
  int count = 0;
  ibv_device** const list = ibv_get_device_list(&count);
  const std::unique_ptr<ibv_device*, void (*)(ibv_device**)> owner(list, ibv_free_device_list);
  if (list == nullptr || count == 0) {
    return error(StatusCode::kUnavailable,
                 "no RDMA device: ibv_get_device_list found none; load a driver or use tcp");
  }
  std::vector<std::unique_ptr<RdmaDevice>> out;
  const size_t paths_max = std::clamp<size_t>(options.paths_max, 1, kRdmaPathsMax);
  Status first_problem;
  const auto try_port = [&](ibv_device* device, uint8_t port) {
    auto opened = std::unique_ptr<RdmaDevice>(new RdmaDevice(options, loop, sink));
    const Status status = opened->open(device, port);
    if (status.ok()) out.push_back(std::move(opened));
    first_problem.update(status);
    return status;
  };
  for (const std::string& wanted : options.devices) {
    const size_t colon = wanted.find(':');
    const std::string name = wanted.substr(0, colon);
    const int port = colon == std::string::npos ? 1 : std::atoi(wanted.c_str() + colon + 1);
    const auto found = std::find_if(list, list + count, [&name](ibv_device* device) {
      return name == ibv_get_device_name(device);
    });
    if (found == list + count || port < 1 || port > 255 || out.size() == paths_max) {
      return error(StatusCode::kUnavailable, "no RDMA device " + wanted + ", or too many named");
    }
    TERRACE_RETURN_IF_ERROR(try_port(*found, static_cast<uint8_t>(port)));
  }
  for (int i = 0; i < count && options.devices.empty(); ++i) {
    for (uint8_t port = 1; port <= 2 && out.size() < paths_max; ++port) {
      (void)try_port(list[i], port);
    }
  }
  if (out.empty()) return first_problem;
  return out;
}

Status RdmaDevice::open(ibv_device* device, uint8_t port) {
  name_ = ibv_get_device_name(device);
  if (port != 1) name_ += ":" + std::to_string(port);
  port_number_ = port;
  context_.reset(ibv_open_device(device));
  if (!context_) return device_error(errno, "opening RDMA device " + name_);
  if (ibv_query_device(context_.get(), &limits_) != 0 ||
      ibv_query_port(context_.get(), port, &port_) != 0) {
    return device_error(errno, "asking RDMA device " + name_);
  }
  if (port_.state != IBV_PORT_ACTIVE) {
    return error(StatusCode::kUnavailable, "RDMA port " + name_ + " is not active");
  }
  TERRACE_RETURN_IF_ERROR(choose_gid());
  mtu_ = static_cast<uint8_t>(port_.active_mtu);
  if (options_.mtu != 0) mtu_ = std::min(mtu_, mtu_enum(options_.mtu));
  domain_.reset(ibv_alloc_pd(context_.get()));
  channel_.reset(ibv_create_comp_channel(context_.get()));
  if (!domain_ || !channel_) return device_error(errno, "setting up RDMA device " + name_);
  const int completions = std::min<int>(kCompletionsAtFirst, limits_.max_cqe);
  cq_.reset(ibv_create_cq(context_.get(), completions, nullptr, channel_.get(), 0));
  ibv_srq_init_attr attributes{};
  attributes.attr.max_wr =
      std::min<uint32_t>(kFramesMax, static_cast<uint32_t>(limits_.max_srq_wr));
  attributes.attr.max_sge = 1;
  srq_.reset(ibv_create_srq(domain_.get(), &attributes));
  if (!cq_ || !srq_ || !make_nonblocking(channel_.get()->fd) ||
      !make_nonblocking(context_.get()->async_fd)) {
    return device_error(errno, "making the queues of RDMA device " + name_);
  }
  channel_watch_ = std::make_unique<Watch>(this, channel_.get()->fd, &RdmaDevice::channel_ready);
  async_watch_ = std::make_unique<Watch>(this, context_.get()->async_fd, &RdmaDevice::async_ready);
  return ok_status();
}

/// Routable and the same on every host: an IPv4 address under RoCE v2.
Status RdmaDevice::choose_gid() {
  int best = 0;
  int best_rank = -1;
  for (int i = 0; i < port_.gid_tbl_len && i < 256; ++i) {
    ibv_gid_entry entry{};
    if (ibv_query_gid_ex(context_.get(), port_number_, static_cast<uint32_t>(i), &entry, 0) != 0) {
      continue;
    }
    const bool v2 = entry.gid_type == IBV_GID_TYPE_ROCE_V2;
    const int rank = (v2 ? 2 : 0) + (is_ipv4(entry.gid) ? 1 : 0);
    if (rank > best_rank) {
      best = i;
      best_rank = rank;
    }
  }
  if (options_.gid_index >= 0) best = options_.gid_index;
  if (best > 255 || ibv_query_gid(context_.get(), port_number_, best, &gid_) != 0) {
    return error(StatusCode::kUnavailable,
                 "RDMA port " + name_ + " has no GID " + std::to_string(best));
  }
  gid_index_ = static_cast<uint8_t>(best);
  return ok_status();
}

RdmaPathEndpoint RdmaDevice::address() const {
  RdmaPathEndpoint out;
  std::memcpy(out.gid.data(), gid_.raw, out.gid.size());
  out.lid = port_.lid;
  out.ethernet = port_.link_layer == IBV_LINK_LAYER_ETHERNET;
  out.mtu = mtu_;
  out.reads_max = static_cast<uint8_t>(std::clamp(limits_.max_qp_rd_atom, 1, 16));
  return out;
}

StatusOr<std::unique_ptr<RdmaKeys>> RdmaDevice::learn(std::span<std::byte> memory,
                                                      RdmaAccess access) const {
  TERRACE_ASSIGN_OR_RETURN(VerbsMemory registered, register_memory(memory, rights_of(access)));
  return std::unique_ptr<RdmaKeys>(std::make_unique<RegisteredKeys>(std::move(registered)));
}

StatusOr<std::unique_ptr<RdmaKeys>> RdmaDevice::learn_dmabuf(int dmabuf, uint64_t offset,
                                                             std::span<std::byte> addresses,
                                                             RdmaAccess access) const {
  VerbsMemory registered(ibv_reg_dmabuf_mr(domain_.get(), offset, addresses.size(),
                                           reinterpret_cast<uint64_t>(addresses.data()), dmabuf,
                                           rights_of(access)));
  if (registered) {
    return std::unique_ptr<RdmaKeys>(std::make_unique<RegisteredKeys>(std::move(registered)));
  }
  const int error_number = errno;
  const std::string what = "registering a dmabuf of " + std::to_string(addresses.size()) +
                           " bytes with " + name_ + ": " + std::strerror(error_number);
  if (error_number != EOPNOTSUPP) return error(StatusCode::kFailedPrecondition, what);
  return error(StatusCode::kUnimplemented, what + "; this card reaches host memory only");
}

StatusOr<VerbsMemory> RdmaDevice::register_memory(std::span<std::byte> memory, int access) const {
  VerbsMemory out(ibv_reg_mr(domain_.get(), memory.data(), memory.size(), access));
  if (out) return out;
  const int error_number = errno;
  std::string what = "registering " + std::to_string(memory.size()) + " bytes with " + name_;
  rlimit limit{};
  (void)::getrlimit(RLIMIT_MEMLOCK, &limit);
  if (error_number == ENOMEM && limit.rlim_cur != RLIM_INFINITY) {
    what += ": over RLIMIT_MEMLOCK, " + std::to_string(limit.rlim_cur) +
            " bytes; raise it (systemd: LimitMEMLOCK=infinity, shell: ulimit -l)";
  } else {
    what += std::string(": ") + std::strerror(error_number);
  }
  return error(StatusCode::kResourceExhausted, std::move(what));
}

Status RdmaDevice::reserve(uint32_t completions, uint32_t frames) {
  const uint32_t wanted = cq_reserved_ + completions;
  const auto have = static_cast<uint32_t>(cq_.get()->cqe);
  if (wanted > have) {
    const uint32_t next =
        std::min(std::max(wanted, 2 * have), static_cast<uint32_t>(limits_.max_cqe));
    if (wanted > next || ibv_resize_cq(cq_.get(), static_cast<int>(next)) != 0) {
      return error(StatusCode::kResourceExhausted,
                   "too many peers for the completion queue of " + name_);
    }
  }
  if (frames_wanted_ + frames > kFramesMax) {
    return error(StatusCode::kResourceExhausted,
                 "too many peers for the receive queue of " + name_);
  }
  while (frames_posted_ + free_buffers_.size() < frames_wanted_ + frames) {
    TERRACE_RETURN_IF_ERROR(add_chunk());
  }
  cq_reserved_ = wanted;
  frames_wanted_ += frames;
  while (frames_posted_ < frames_wanted_) {
    const uint32_t buffer = free_buffers_.back();
    free_buffers_.pop_back();
    post_receive(buffer);
  }
  return ok_status();
}

/// What is posted stays posted until it is used.
void RdmaDevice::release(uint32_t completions, uint32_t frames) {
  cq_reserved_ -= completions;
  frames_wanted_ -= frames;
}

Status RdmaDevice::add_chunk() {
  Chunk chunk;
  TERRACE_ASSIGN_OR_RETURN(chunk.memory, AlignedBuffer::allocate(kChunkFrames * kRdmaFrameBytes));
  TERRACE_ASSIGN_OR_RETURN(chunk.registration,
                           register_memory(chunk.memory.span(), IBV_ACCESS_LOCAL_WRITE));
  for (uint32_t i = 0; i < kChunkFrames; ++i) {
    free_buffers_.push_back(static_cast<uint32_t>(chunks_.size()) * kChunkFrames + i);
  }
  chunks_.push_back(std::move(chunk));
  return ok_status();
}

std::span<std::byte> RdmaDevice::buffer_at(uint32_t buffer) {
  return chunks_[buffer / kChunkFrames].memory.span().subspan(
      size_t{buffer % kChunkFrames} * kRdmaFrameBytes, kRdmaFrameBytes);
}

void RdmaDevice::post_receive(uint32_t buffer) {
  ibv_sge place{.addr = reinterpret_cast<uint64_t>(buffer_at(buffer).data()),
                .length = kRdmaFrameBytes,
                .lkey = chunks_[buffer / kChunkFrames].registration.get()->lkey};
  ibv_recv_wr request{};
  request.wr_id = kFrameBit | buffer;
  request.sg_list = &place;
  request.num_sge = 1;
  ibv_recv_wr* bad = nullptr;
  // Fails only when the device is gone, which its own event tells.
  if (ibv_post_srq_recv(srq_.get(), &request, &bad) == 0) ++frames_posted_;
}

void RdmaDevice::start() {
  async_watch_->arm();
  schedule_poll();
}

void RdmaDevice::close() {
  closing_ = true;
  if (channel_watch_->in_flight()) loop_->cancel(channel_watch_.get());
  if (async_watch_->in_flight()) loop_->cancel(async_watch_.get());
}

bool RdmaDevice::drained() const {
  return !poll_scheduled_ && !channel_watch_->in_flight() && !async_watch_->in_flight();
}

void RdmaDevice::channel_ready() {
  ibv_cq* cq = nullptr;
  void* context = nullptr;
  // One was asked for; another would only wake us once more.
  if (ibv_get_cq_event(channel_.get(), &cq, &context) == 0) ibv_ack_cq_events(cq, 1);
  poll();
}

void RdmaDevice::async_ready() {
  ibv_async_event event{};
  while (ibv_get_async_event(context_.get(), &event) == 0) {
    const ibv_event_type type = event.event_type;
    const bool ours = event.element.port_num == port_number_;
    ibv_ack_async_event(&event);
    if (type == IBV_EVENT_DEVICE_FATAL || (type == IBV_EVENT_PORT_ERR && ours)) {
      sink_->port_lost(this, error(StatusCode::kUnavailable,
                                   "RDMA port " + name_ + ": " + ibv_event_type_str(type)));
    }
    if (type == IBV_EVENT_DEVICE_FATAL) return;  // its descriptor stays readable for ever
  }
  async_watch_->arm();
}

void RdmaDevice::schedule_poll() {
  if (std::exchange(poll_scheduled_, true)) return;
  loop_->defer([this] {
    poll_scheduled_ = false;
    if (closing_) return sink_->device_drained();
    poll();
  });
}

/// Bounded: what is left waits for the next turn. The channel is asked for an event only when the
/// queue is empty, and the queue is looked at once more after that, so that none is missed.
void RdmaDevice::poll() {
  size_t found = poll_some();
  if (found < options_.turn_completions_max) {
    if (options_.busy_poll > Nanos(0)) {
      const Nanos now = loop_->now();
      if (found > 0) last_work_ = now;
      if (now - last_work_ < options_.busy_poll) return schedule_poll();
    }
    if (ibv_req_notify_cq(cq_.get(), 0) == 0 && (found = poll_some()) == 0) {
      if (!channel_watch_->in_flight()) channel_watch_->arm();
      return;
    }
  }
  schedule_poll();
}

size_t RdmaDevice::poll_some() {
  ibv_wc completions[kPollBatch];
  size_t found = 0;
  size_t bytes = 0;
  while (found < options_.turn_completions_max) {
    const int n = ibv_poll_cq(cq_.get(), kPollBatch, completions);
    if (n <= 0) break;
    for (int i = 0; i < n; ++i) bytes += dispatch(completions[i]);
    found += static_cast<size_t>(n);
    if (bytes >= options_.turn_bytes_max) {
      found = std::max<size_t>(found, options_.turn_completions_max);
    }
  }
  if (found > 0) sink_->round_ends();
  return found;
}

size_t RdmaDevice::dispatch(const ibv_wc& completion) {
  if ((completion.wr_id & kFrameBit) == 0) {
    sink_->completed(static_cast<uint32_t>(completion.wr_id >> 32), completion);
    return 0;
  }
  const auto buffer = static_cast<uint32_t>(completion.wr_id & 0xFFFFFFFF);
  const bool good = completion.status == IBV_WC_SUCCESS && completion.opcode == IBV_WC_RECV;
  const size_t bytes = good ? std::min(completion.byte_len, kRdmaFrameBytes) : 0;
  if (good) sink_->frame_came(this, completion.qp_num, buffer_at(buffer).first(bytes));
  --frames_posted_;
  if (frames_posted_ < frames_wanted_) {
    post_receive(buffer);
  } else {
    free_buffers_.push_back(buffer);
  }
  return bytes;
}
}  // namespace terrace
