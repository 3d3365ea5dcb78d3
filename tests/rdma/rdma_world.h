// tests/rdma/rdma_world.h - RDMA transports in one process, and a peer made by hand out of bare
// queue pairs that can say anything. Single-threaded; loops are turned by the test.
#pragma once
#include "tests/contract/transport_pair.h"
#include "transport/rdma_lane.h"
#include "transport/rdma_stream.h"
#include "transport/rdma_transport.h"
#include "transport/rdma_wire.h"

namespace terrace {

using RdmaSecret = std::array<std::byte, 16>;

inline RdmaSecret secret_of(int n) {
  RdmaSecret out{};
  out[0] = static_cast<std::byte>(n);
  return out;
}

/// Names of the RDMA devices here.
inline std::vector<std::string> rdma_devices() {
  int count = 0;
  ibv_device** const list = ibv_get_device_list(&count);
  std::vector<std::string> out;
  for (int i = 0; list != nullptr && i < count; ++i) out.emplace_back(ibv_get_device_name(list[i]));
  if (list != nullptr) ibv_free_device_list(list);
  return out;
}

/// One transport with its loop; `side` records what it says.
struct RdmaNode {
  explicit RdmaNode(const Clock* clock) : side(clock) {}
  ~RdmaNode() { close(); }
  void start(const RdmaOptions& options) {
    auto made = RdmaTransport::create(side.loop.get(), &side, options);
    ASSERT_TRUE(made.ok()) << made.status().to_string();
    rdma = made->get();
    side.transport = *std::move(made);
  }
  void turn() { side.loop->turn(microseconds(50)); }
  void close() {
    if (rdma == nullptr) return;
    CountingOp closed;
    rdma->close(&closed);
    while (closed.runs == 0) turn();
    EXPECT_EQ(rdma->metrics().peers.get(), 0u);
    EXPECT_EQ(rdma->metrics().queued_bytes.get(), 0u);
    side.transport.reset();
    rdma = nullptr;
  }
  Side side;
  RdmaTransport* rdma = nullptr;
};

/// A client transport and a server transport. `turn_until` turns both.
class RdmaWorld : public testing::Test {
 protected:
  void SetUp() override {
    if (rdma_devices().empty()) GTEST_SKIP() << "no RDMA device here";
  }
  void start(const RdmaOptions& of_a, const RdmaOptions& of_b) {
    a.start(of_a);
    b.start(of_b);
  }
  bool turn_until(const std::function<bool()>& there, Nanos limit = seconds(20)) {
    for (const Nanos end = clock.now() + limit; clock.now() < end;) {
      if (there()) return true;
      a.turn();
      if (b.rdma != nullptr) b.turn();
    }
    return false;
  }
  /// Connects a to b; the peer at a. At b, `b.side.peer` is the last one that came.
  PeerId connect(int who) {
    const auto asked = a.rdma->open(secret_of(who));
    EXPECT_TRUE(asked.ok()) << asked.status().to_string();
    const auto answered = b.rdma->accept(secret_of(who), asked->endpoint);
    EXPECT_TRUE(answered.ok()) << answered.status().to_string();
    CountingOp connected;
    EXPECT_TRUE(
        a.rdma->establish(asked->peer, answered->endpoint, clock.now() + seconds(5), &connected)
            .ok());
    EXPECT_TRUE(turn_until([&] { return connected.runs == 1; }));
    EXPECT_TRUE(connected.result.ok()) << connected.result.to_string();
    a.side.peer = asked->peer;
    return asked->peer;
  }
  /// Registers `memory` and waits for the cards.
  Status prepared(RdmaNode* node, std::span<std::byte> memory) {
    const StatusOr<RegionId> region = node->side.register_region(memory);
    if (!region.ok()) return region.status();
    CountingOp op;
    node->rdma->when_prepared(*region, &op);
    EXPECT_TRUE(turn_until([&] { return op.runs == 1; }));
    return op.result;
  }
  SystemClock clock;
  RdmaNode a{&clock};
  RdmaNode b{&clock};
};

/// A peer by hand: one path, frames and requests as the test makes them.
class RawRdmaPeer final : public RdmaDevice::Sink {
 public:
  explicit RawRdmaPeer(Loop* loop) {
    auto devices = RdmaDevice::open_all(options_, loop, this);
    TERRACE_CHECK(devices.ok());
    device_ = std::move(devices->front());
    TERRACE_CHECK(device_->reserve(1000, 80).ok());
    message_ = *RdmaLane::create(device_.get(), RdmaLane::Kind::message, 1);
    data_ = *RdmaLane::create(device_.get(), RdmaLane::Kind::data, 2);
    memory_ = *AlignedBuffer::allocate(kMiB);
    registration_ = *device_->register_memory(
        memory_.span(), IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ);
    device_->start();
  }
  /// Closed and drained by the test, which turns the loop.
  void close() { device_->close(); }
  bool drained() const { return device_->drained(); }

  std::string endpoint() const {
    RdmaPathEndpoint path = device_->address();
    path.message_qpn = message_->qpn();
    path.message_psn = message_->psn();
    path.data_qpn = data_->qpn();
    path.data_psn = data_->psn();
    return encode(RdmaEndpoint{.paths = {path}});
  }
  void connect(const std::string& bytes) {
    const auto remote = decode_rdma_endpoint(bytes);
    TERRACE_CHECK(remote.ok());
    const RdmaPathEndpoint& path = remote->paths.front();
    TERRACE_CHECK(message_->connect(path, path.message_qpn, path.message_psn, seconds(2)).ok());
    TERRACE_CHECK(data_->connect(path, path.data_qpn, path.data_psn, seconds(2)).ok());
  }
  void send_frame(const RdmaFrameHeader& header, std::span<const std::byte> records) {
    const auto frame = memory_.span().first(kRdmaFrameHeaderBytes + records.size());
    encode(header, frame.first<kRdmaFrameHeaderBytes>());
    std::copy(records.begin(), records.end(), frame.begin() + kRdmaFrameHeaderBytes);
    post(message_.get(), IBV_WR_SEND, frame, 0, 0, 0);
  }
  /// The next frame in order, with one record.
  void send(RdmaRecord record, std::span<const std::byte> body = {}) {
    record.body_bytes = static_cast<uint32_t>(body.size());
    std::vector<std::byte> bytes(kRdmaRecordBytes);
    encode(record, std::span(bytes).first<kRdmaRecordBytes>());
    bytes.insert(bytes.end(), body.begin(), body.end());
    send_frame({.bytes = static_cast<uint32_t>(bytes.size()),
                .sequence = ++sequence,
                .acknowledged = deaf ? 0 : in_frames},
               bytes);
  }
  void write_immediate(uint64_t address, uint32_t key, uint32_t bytes, uint32_t immediate) {
    post(data_.get(), IBV_WR_RDMA_WRITE_WITH_IMM, memory_.span().first(bytes), address, key,
         immediate);
  }
  RdmaGrantEntry grant_of_ours(uint32_t bytes) {
    return {reinterpret_cast<uint64_t>(memory_.data()), registration_.get()->rkey, bytes};
  }

  void completed(uint32_t serial, const ibv_wc& completion) override {
    statuses.push_back(completion.status);
    if (completion.status == IBV_WC_SUCCESS && (completion.opcode & IBV_WC_RECV) == 0) {
      (void)(serial == 1 ? message_ : data_)->sent();
    }
  }
  void frame_came(RdmaDevice*, uint32_t, std::span<const std::byte> frame) override {
    const auto header = decode_rdma_frame(frame);
    TERRACE_CHECK(header.ok());
    goodbye = goodbye || header->goodbye;
    if (header->sequence > 0) in_frames = header->sequence;
    struct Keep final : RdmaInStream::Sink {
      Status record_came(const RdmaRecord& record, std::span<const std::byte> body) override {
        peer->got[record.type] = record;
        if (record.type == RdmaRecordType::grant) {
          peer->grant = decode_rdma_grant(body, peer->asked_bytes);
        }
        return ok_status();
      }
      RawRdmaPeer* peer = nullptr;
    } keep;
    keep.peer = this;
    TERRACE_CHECK(in_.feed(frame.subspan(kRdmaFrameHeaderBytes), &keep).ok());
  }
  void port_lost(RdmaDevice*, const Status&) override {}
  void round_ends() override {}
  void device_drained() override {}

  uint64_t sequence = 0;
  uint64_t in_frames = 0;
  uint64_t asked_bytes = 8;
  bool goodbye = false;
  bool deaf = false;                         // acknowledges nothing
  std::map<RdmaRecordType, RdmaRecord> got;  // the last of each
  StatusOr<std::vector<RdmaGrantEntry>> grant = StatusCode::kNotFound;
  std::vector<ibv_wc_status> statuses;

 private:
  void post(RdmaLane* lane, ibv_wr_opcode opcode, std::span<std::byte> from, uint64_t address,
            uint32_t key, uint32_t immediate) {
    ibv_sge place{reinterpret_cast<uint64_t>(from.data()), static_cast<uint32_t>(from.size()),
                  registration_.get()->lkey};
    ibv_send_wr request{};
    request.sg_list = &place;
    request.num_sge = from.empty() ? 0 : 1;
    request.opcode = opcode;
    if (from.size() <= lane->inline_max()) request.send_flags = IBV_SEND_INLINE;
    request.imm_data = htobe32(immediate);
    request.wr.rdma.remote_addr = address;
    request.wr.rdma.rkey = key;
    (void)lane->post(&request, true);
  }
  const RdmaOptions options_;
  std::unique_ptr<RdmaDevice> device_;
  std::unique_ptr<RdmaLane> message_;
  std::unique_ptr<RdmaLane> data_;
  AlignedBuffer memory_;
  VerbsMemory registration_;
  RdmaInStream in_;
};
}  // namespace terrace
