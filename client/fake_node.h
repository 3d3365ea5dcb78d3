// client/fake_node.h - for tests: the node's side of the data protocol over the real transport, in
// this process, with faults that a test chooses; and a control plane that leads to it.
#pragma once
#include <atomic>
#include <condition_variable>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "client/control_channel.h"
#include "proto/data.pb.h"
#include "proto/fragment_map.h"
#include "proto/message_kind.h"
#include "transport/tcp_transport.h"

namespace terrace {

class FakeNode final : public TransportHandler {
 public:
  enum class Fault : uint8_t {
    none,
    frozen,          // keeps requests and answers them when the fault is lifted
    wrong_crc,       // in the last frame
    wrong_target,    // the first frame goes one byte further
    duplicate,       // the first frame twice
    reply_first,     // the reply overtakes the frames; allowed
    missing_frame,   // one frame is never sent, and not counted
    dies_midway,     // closes the peer after half of the frames
    foreign_item,    // frames for an item nobody asked for
    never_replies,   // all frames, no reply
    short_reply,     // too few codes
    garbage,         // replies that do not parse
    reads_too_much,  // a put's memory and one byte more
    never_reads,     // admits puts and then does nothing
  };
  FakeNode();
  ~FakeNode();

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  void set(Fault fault);
  /// Closes every peer, as a killed process would.
  void drop_peers();
  void add(const ChunkKey& key, std::vector<std::byte> bytes);
  std::vector<std::byte> get(const ChunkKey& key);
  /// Objects are delivered as sections of this size; 0: one.
  void set_section_bytes(uint64_t bytes);
  uint32_t cancels() const { return cancels_; }
  uint32_t leases() const { return leases_; }
  uint32_t releases() const { return releases_; }
  uint32_t touched() const { return touched_; }
  uint32_t refused_reads() const { return refused_reads_; }

  void on_peer(PeerId peer, std::span<const std::byte, 16> secret) override;
  void on_message(PeerId peer, const Message& message) override;
  bool accept_write(PeerId, const IncomingWrite&, std::vector<uint32_t>*) override { return false; }
  void on_write(PeerId, const IncomingWrite&) override {}
  Status accept_read(PeerId, uint64_t, std::span<const RemoteSpan>) override {
    return StatusCode::kPermissionDenied;
  }
  void on_peer_closed(PeerId peer, const Status& why) override;

 private:
  struct Frame;
  struct Put;
  struct Kept {
    PeerId peer;
    uint16_t kind;
    uint64_t tag;
    std::string body;
  };
  void run(std::promise<void>* ready);
  void on_loop(std::function<void()> work);
  void handle(PeerId peer, uint16_t kind, uint64_t tag, const std::string& body);
  void fetch(PeerId peer, uint64_t tag, const proto::FetchRequest& request);
  // client/fake_requests.cc
  WireInfo info_of(const ChunkKey& key) const;
  void lookup(PeerId peer, uint64_t tag, const std::string& body);
  void match(PeerId peer, uint64_t tag, const std::string& body);
  void erase(PeerId peer, uint64_t tag, const std::string& body);
  void list(PeerId peer, uint64_t tag, const std::string& body);

  void put(PeerId peer, uint64_t tag, const proto::PutRequest& request);
  void source(uint64_t tag, const proto::PutSource& source);
  void put_done(Put* put, Status result);
  std::vector<Frame> frames_of(const proto::FetchRequest& request, std::string* codes);
  void write(PeerId peer, uint64_t tag, const Frame& frame);
  void reply(PeerId peer, MessageKind kind, uint64_t tag, const std::string& body);

  SystemClock clock_;
  Loop* loop_ = nullptr;
  TcpTransport* transport_ = nullptr;
  uint16_t port_ = 0;
  std::promise<void> farewell_;
  std::thread thread_;
  std::atomic<uint32_t> cancels_{0}, refused_reads_{0}, leases_{0}, releases_{0}, touched_{0};
  // Loop thread.
  Fault fault_ = Fault::none;
  uint64_t section_bytes_ = 0;
  std::map<ChunkKey, std::vector<std::byte>> objects_;
  std::set<PeerId> peers_;
  std::vector<Kept> kept_;
  std::map<uint64_t, std::unique_ptr<Put>> puts_;  // by tag
};

/// Leads to whichever node it points at. Thread-safe.
class FakeControl final : public ControlChannel {
 public:
  struct Shared {
    std::mutex mutex;
    FakeNode* node = nullptr;  // null: nobody listens
    Status refuse_namespace;   // what open_namespace says
    bool hangs = false;        // open_session answers nothing until its timeout
    bool shut_down = false;
    std::condition_variable changed;
    uint32_t sessions = 0;
  };
  explicit FakeControl(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  /// For Client::open, one for each of its endpoints.
  static std::vector<std::unique_ptr<ControlChannel>> channels(
      std::span<const std::shared_ptr<Shared>> nodes);
  StatusOr<SessionOffer> open_session(const std::string& tenant, Nanos timeout) override;
  StatusOr<uint32_t> open_namespace(const SessionSecret& secret, const std::string& name,
                                    const std::string& canonical, Nanos timeout) override;
  StatusOr<std::string> open_rdma(const SessionSecret&, const std::string&, Nanos) override {
    return error(StatusCode::kUnavailable, "no RDMA");
  }
  void shut_down() override;

 private:
  const std::shared_ptr<Shared> shared_;
};
}  // namespace terrace
