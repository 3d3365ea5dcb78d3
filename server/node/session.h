// server/node/session.h - one client, as the node sees it, and what its operations stand on. Loop
// thread only.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/loop.h"
#include "proto/message_kind.h"
#include "server/node/config.h"
#include "server/node/counters.h"
#include "server/node/lease_table.h"
#include "server/node/namespace_table.h"
#include "server/node/pacer.h"
#include "storage/chunk_store.h"
#include "transport/transport.h"

namespace google::protobuf {
class MessageLite;
}

namespace terrace {

class DeviceLender;
class RdmaTransport;
class ScanTurns;
class ShmTransport;
class ViewTable;

/// What every operation of a node works with. Outlives them all.
struct NodeContext {
  const NodeConfig* config = nullptr;
  Loop* loop = nullptr;
  ChunkStore* store = nullptr;
  Transport* transport = nullptr;
  NamespaceTable* namespaces = nullptr;
  NodeCounters* counters = nullptr;
  Pacer* pacer = nullptr;
  ScanTurns* scans = nullptr;
  ShmTransport* shm = nullptr;  // null without shared memory, like the next two
  ViewTable* views = nullptr;
  DeviceLender* lender = nullptr;
  RdmaTransport* rdma = nullptr;  // null without RDMA
  /// Shutting down: new operations are refused. Read by any thread.
  std::atomic<bool> draining{false};

  /// Pinned bytes that a namespace may have: an eighth of the node's largest tier, if not said. On
  /// the loop.
  uint64_t pinned_quota() const;
};

using Secret = std::array<std::byte, 16>;
class Session;

/// One request that takes more than a turn. Owned by its session, by tag; it says finished() once,
/// when nothing it started is in flight, and is destroyed on a later turn.
class Operation {
 public:
  Operation(NodeContext* context, Session* session, OpKind kind, Lane lane, uint64_t tag);
  virtual ~Operation();
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  virtual void start() = 0;
  /// Ends early: starts nothing new; still replies and finishes. Repeating it changes nothing.
  virtual void cancel(StatusCode why) = 0;
  uint64_t tag() const { return tag_; }
  Lane lane() const { return lane_; }

 protected:
  /// Calls cancel(kDeadlineExceeded) after `deadline_ms` (0: the node's longest).
  void arm_deadline(uint32_t deadline_ms);
  void reply(MessageKind kind, const google::protobuf::MessageLite& body);
  /// Counts the result and gives the operation back to its session.
  void finished(StatusCode code);

  NodeContext* const context_;
  Session* const session_;

 private:
  const OpKind kind_;
  const Lane lane_;
  const uint64_t tag_;
  const Nanos started_;
  Timer deadline_;
};

class Session {
 public:
  Session(NodeContext* context, std::string tenant, std::string client, const Secret& secret);
  ~Session();

  const std::string& tenant() const { return tenant_; }
  const std::string& client() const { return client_; }
  const Secret& secret() const { return secret_; }
  PeerId peer() const { return peer_; }
  bool connected() const { return connected_; }
  /// A secret opens one connection: it is used up even when that ended.
  bool was_connected() const { return was_connected_; }
  void connected_as(PeerId peer);
  /// True once: a session may have queue pairs made for it a single time.
  bool take_queue_pairs() { return !std::exchange(queue_pairs_taken_, true); }
  LeaseTable& leases() { return leases_; }

  /// Rights to compute, by the tag of the operation that got them; they end with the session.
  void keep_right(uint64_t tag, GenerationRight right) { rights_[tag] = std::move(right); }
  void release_right(uint64_t tag) { rights_.erase(tag); }
  size_t rights() const { return rights_.size(); }

  /// The namespace when this session opened it, else null.
  const Namespace* find_namespace(uint32_t id) const;
  void opened(std::shared_ptr<const Namespace> ns);
  /// Of its tenant; nobody's before it opened a namespace.
  DomainId domain() const { return domain_; }

  void reply(MessageKind kind, uint64_t tag, const google::protobuf::MessageLite& body);
  /// Starts `operation`. kInvalidArgument: its tag is in use; kResourceExhausted: too many of this
  /// session, or of the node for its lane: stores are refused first, then prefetches. Then the
  /// caller replies.
  Status start(std::unique_ptr<Operation> operation);
  Operation* find_operation(uint64_t tag);
  void operation_finished(uint64_t tag);
  /// The peer is gone: ends every operation; `idle` runs once none is left (at once when none is).
  void disconnected(std::function<void()> idle);
  size_t operations() const { return operations_.size(); }
  uint32_t puts() const { return puts_; }
  void put_began() { ++puts_; }
  void put_ended() { --puts_; }
  uint32_t lists() const { return lists_; }
  void list_began() { ++lists_; }
  void list_ended() { --lists_; }

 private:
  NodeContext* const context_;
  const std::string tenant_;
  const std::string client_;
  const Secret secret_;
  PeerId peer_{};
  bool connected_ = false;
  bool was_connected_ = false;
  bool queue_pairs_taken_ = false;
  LeaseTable leases_;
  std::unordered_map<uint64_t, GenerationRight> rights_;
  std::unordered_map<uint32_t, std::shared_ptr<const Namespace>> namespaces_;
  std::unordered_map<uint64_t, std::unique_ptr<Operation>> operations_;
  DomainId domain_ = kNobody;
  uint32_t puts_ = 0;   // of the operations
  uint32_t lists_ = 0;  // the same
  std::function<void()> idle_;
};
}  // namespace terrace
