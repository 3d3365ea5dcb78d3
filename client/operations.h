// client/operations.h - the table of operations in flight: starts each when the session with its
// node is up, brings it what the transport delivers, and publishes its completion, or joins it with
// those of the same operation on other nodes. Loop thread.
#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "client/client_op.h"
#include "client/completions.h"
#include "client/device_memory.h"
#include "client/join.h"
#include "client/leases.h"
#include "client/session.h"
#include "client/views.h"

namespace google::protobuf {
class MessageLite;
}

namespace terrace {

class Operations final : public TransportHandler,
                         public NodeSession::Listener,
                         public DeviceMemory::Listener {
 public:
  struct Parts {
    Loop* loop;
    Completions* completions;
    NamespaceBook* namespaces;
    ClientCounters* counters;
    Views* views;
    std::function<void(uint32_t node, Status)> first_attempt;
    std::shared_ptr<Accelerator> accelerator;  // may be null
  };
  explicit Operations(Parts parts)
      : parts_(std::move(parts)), devices_(parts_.loop, parts_.accelerator, this) {}
  ~Operations();
  /// Once, before anything else.
  void bind(Links* links, std::span<NodeSession* const> sessions);

  // For the client.
  void submit(std::unique_ptr<ClientOp> op);
  /// One operation as parts, each on its node; `head` names the whole, and the parts have its
  /// deadline.
  void submit_joined(const ClientOp::Head& head, Join join,
                     std::vector<std::unique_ptr<ClientOp>> parts);
  void cancel(OpId op);
  void source_ready(OpId op, uint32_t item, uint32_t first, uint32_t count);
  void release(LeaseId lease);
  void release_right(const ComputeRight& right);
  void touch(NamespaceId ns, uint32_t node, std::span<const ChunkKey> keys);
  /// Tells the node, when it is the one that granted it.
  void release_view(const Views::Held& view);
  /// Ends everything as kCancelled; `idle` runs once when no operation is left.
  void close(std::function<void()> idle);

  // For operations, which name their node.
  Loop* loop() { return parts_.loop; }
  ClientCounters* counters() { return parts_.counters; }
  Views* views() { return parts_.views; }
  PeerId peer(uint32_t node) const { return session(node)->peer(); }
  /// A memory file that the node lent this session; null: none.
  std::shared_ptr<const ShmMapping> lent_file(uint32_t node, uint64_t file) const {
    return links_->shm.mapping(peer(node), file);
  }
  /// Device memory that the node lent this session.
  StatusOr<std::shared_ptr<const OpenDevice>> lent_device(uint32_t node,
                                                          const proto::DeviceLoan& loan) {
    return devices_.open(peer(node), loan);
  }
  /// A reply to an operation that has ended, which is nothing strange: what it granted goes back.
  void nobody_waits_for(uint32_t node, const Message& message);
  uint64_t open_tag(ClientOp* op, uint32_t sub);
  void close_tag(uint64_t tag) { tags_.erase(tag); }
  /// kUnavailable, kInvalidArgument (over kBodyBytesMax), kResourceExhausted.
  Status send(uint32_t node, MessageKind kind, uint64_t tag,
              const google::protobuf::MessageLite& body);
  void send_cancel(uint32_t node, uint64_t tag);
  void quiesce(uint32_t node, uint64_t tag, Op* op);
  /// Layers of `op`, a fetch, that are ready.
  void set_layers(const ClientOp& op, uint32_t layers);
  /// Asks for slice() calls, one per turn, until it returns false; those who asked before go first.
  void schedule_slices(OpId op);
  /// A node takes so many operations per session, and every item of a put is one: false when none
  /// is left now; `op` then hears on_credit().
  bool take_put_credit(const ClientOp& op);
  void give_put_credit(uint32_t node);
  void end_later(OpId op, Status why);
  void expired(uint32_t node, Nanos begun) { session(node)->expired(begun); }
  void finished(ClientOp* op, Completion completion);
  /// The engine's name for a lease that the node granted this session, and the way back.
  LeaseId lease_of(uint32_t node, uint64_t wire) const;
  uint64_t wire_of(LeaseId lease, uint32_t node) const;

  // TransportHandler.
  void on_peer(PeerId peer, std::span<const std::byte, 16> secret) override;
  void on_message(PeerId peer, const Message& message) override;
  bool accept_write(PeerId peer, const IncomingWrite& write,
                    std::vector<uint32_t>* crc_runs) override;
  void on_write(PeerId peer, const IncomingWrite& write) override;
  Status accept_read(PeerId peer, uint64_t tag, std::span<const RemoteSpan> spans) override;
  void on_peer_closed(PeerId peer, const Status& why) override;

  // DeviceMemory::Listener.
  void device_given_back(PeerId peer, uint64_t loan) override;

  // NodeSession::Listener.
  void session_up(uint32_t node) override;
  void session_skipped(uint32_t node, const Status& why) override;
  void first_attempt(uint32_t node, const Status& result) override {
    parts_.first_attempt(node, result);
  }

 private:
  struct Place {
    ClientOp* op = nullptr;
    uint32_t sub = 0;
  };
  struct Node {
    NodeSession* session = nullptr;
    std::deque<OpId> credit_waiters;  // at most one entry per operation
    uint32_t put_credits = kOperationsPerSessionMax / 2;
  };
  struct Joined {
    ClientOp::Head head;
    Join join;
    std::vector<OpId> parts;
  };
  NodeSession* session(uint32_t node) const { return nodes_[node].session; }
  /// Whose session has this peer now; none: an old session's.
  std::optional<uint32_t> node_of(PeerId peer) const;
  /// As above, and notes that the node said something.
  std::optional<uint32_t> heard_from(PeerId peer);
  /// Sends what has no answer: no sign of life either way.
  void send_hint(uint32_t node, MessageKind kind, const google::protobuf::MessageLite& body);
  void send_release(uint32_t node, std::span<const uint64_t> node_ids);
  ClientOp* find(OpId op);
  /// Null too when the tag is not of an operation on this node.
  const Place* find_tag(uint32_t node, uint64_t tag);
  void start(ClientOp* op);
  void run_slice();
  void part_finished(const ClientOp& part, Completion completion);
  void publish(Completion completion);
  void count(const Completion& completion);
  /// Oldest first; `node`: only its own.
  std::vector<ClientOp*> all(bool started, std::optional<uint32_t> node = std::nullopt);

  const Parts parts_;
  Links* links_ = nullptr;
  Transport* transport_ = nullptr;  // all of the links
  std::vector<Node> nodes_;
  std::unordered_map<uint64_t, std::unique_ptr<ClientOp>> live_;  // by OpId, parts too
  std::unordered_map<uint64_t, Joined> joined_;                   // by OpId
  Leases leases_;
  DeviceMemory devices_;
  std::unordered_map<uint64_t, Place> tags_;
  uint64_t next_tag_ = 1;
  uint64_t next_part_ = 1;
  std::deque<OpId> slices_;  // at most one entry per operation
  bool closed_ = false;
  std::function<void()> idle_;
};
}  // namespace terrace
