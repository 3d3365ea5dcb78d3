// client/operations.h - the table of operations in flight: starts them when the session is up,
// brings them what the transport delivers, and publishes their completions. Loop thread.
#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "client/client_op.h"
#include "client/completions.h"
#include "client/session.h"
#include "client/views.h"

namespace google::protobuf {
class MessageLite;
}

namespace terrace {

class Operations final : public TransportHandler, public NodeSession::Listener {
 public:
  struct Parts {
    Loop* loop;
    Completions* completions;
    NamespaceBook* namespaces;
    ClientCounters* counters;
    Views* views;
    std::function<void(Status)> first_attempt;
  };
  explicit Operations(Parts parts) : parts_(std::move(parts)) {}
  ~Operations();
  /// Once, before anything else.
  void bind(Links* links, NodeSession* session);

  // For the client.
  void submit(std::unique_ptr<ClientOp> op);
  void cancel(OpId op);
  void source_ready(OpId op, uint32_t item, uint32_t first, uint32_t count);
  void release(LeaseId lease);
  void touch(NamespaceId ns, std::span<const ChunkKey> keys);
  /// Tells the node, when it is the one that granted it.
  void release_view(const Views::Held& view);
  /// Ends everything as kCancelled; `idle` runs once when no operation is left.
  void close(std::function<void()> idle);

  // For operations.
  Loop* loop() { return parts_.loop; }
  ClientCounters* counters() { return parts_.counters; }
  Completions* completions() { return parts_.completions; }
  Views* views() { return parts_.views; }
  PeerId peer() const { return session_->peer(); }
  /// A memory file that the node lent this session; null: none.
  std::shared_ptr<const ShmMapping> lent_file(uint64_t file) const {
    return links_->shm.mapping(session_->peer(), file);
  }
  /// A reply to an operation that has ended, which is nothing strange: what it granted goes back.
  void nobody_waits_for(const Message& message);
  /// Those that have one.
  void release_views(std::span<const ObjectView> views);
  uint64_t open_tag(ClientOp* op, uint32_t sub);
  void close_tag(uint64_t tag) { tags_.erase(tag); }
  /// kUnavailable, kInvalidArgument (over kBodyBytesMax), kResourceExhausted.
  Status send(MessageKind kind, uint64_t tag, const google::protobuf::MessageLite& body);
  void send_cancel(uint64_t tag);
  void quiesce(uint64_t tag, Op* op);
  /// Asks for slice() calls, one per turn, until it returns false; those who asked before go first.
  void schedule_slices(OpId op);
  /// A node takes so many operations per session, and every item of a put is one: false when none
  /// is left now; `op` then hears on_credit().
  bool take_put_credit(OpId op);
  void give_put_credit();
  void end_later(OpId op, Status why);
  void expired(Nanos begun) { session_->expired(begun); }
  void finished(ClientOp* op, Completion completion);
  /// Leases belong to a session: the number the engine sees carries which one.
  LeaseId lease_of(uint64_t wire) const;
  uint64_t wire_of(LeaseId lease) const;

  // TransportHandler.
  void on_peer(PeerId peer, std::span<const std::byte, 16> secret) override;
  void on_message(PeerId peer, const Message& message) override;
  bool accept_write(PeerId peer, const IncomingWrite& write,
                    std::vector<uint32_t>* crc_runs) override;
  void on_write(PeerId peer, const IncomingWrite& write) override;
  Status accept_read(PeerId peer, uint64_t tag, std::span<const RemoteSpan> spans) override;
  void on_peer_closed(PeerId peer, const Status& why) override;

  // NodeSession::Listener.
  void session_up() override;
  void session_skipped(const Status& why) override;
  void first_attempt(const Status& result) override { parts_.first_attempt(result); }

 private:
  struct Place {
    ClientOp* op = nullptr;
    uint32_t sub = 0;
  };
  /// Sends what has no answer: no sign of life either way.
  void send_hint(MessageKind kind, const google::protobuf::MessageLite& body);
  void send_release(std::span<const uint64_t> node_ids);
  ClientOp* find(OpId op);
  const Place* find_tag(uint64_t tag);
  void start(ClientOp* op);
  void run_slice();
  void count(const Completion& completion);
  std::vector<ClientOp*> all(bool started);

  const Parts parts_;
  Links* links_ = nullptr;
  Transport* transport_ = nullptr;  // all of the links
  NodeSession* session_ = nullptr;
  std::unordered_map<uint64_t, std::unique_ptr<ClientOp>> live_;  // by OpId
  std::unordered_map<uint64_t, Place> tags_;
  uint64_t next_tag_ = 1;
  std::deque<OpId> slices_;          // at most one entry per operation
  std::deque<OpId> credit_waiters_;  // at most one entry per operation
  uint32_t put_credits_ = kOperationsPerSessionMax / 2;
  bool closed_ = false;
  std::function<void()> idle_;
};
}  // namespace terrace
