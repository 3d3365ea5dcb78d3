// client/session.h - the connection to one node: opened, lost, probed with backoff, opened again.
// Loop thread, except where said. The blocking half of an attempt runs on the worker.
#pragma once
#include <atomic>
#include <mutex>
#include <string>

#include "base/loop.h"
#include "base/prng.h"
#include "client/control_channel.h"
#include "client/counters.h"
#include "client/links.h"
#include "client/namespaces.h"
#include "client/worker.h"

namespace terrace {

class NodeSession {
 public:
  enum class State : uint8_t {
    connecting,  // operations wait, each until its own deadline
    up,
    skipped,  // the node failed kFailuresMax times in a row: operations end at once
    closed,
  };
  /// Failed connects, with the short sessions between them, or operations that expired in silence,
  /// after which the node is skipped.
  static constexpr uint32_t kFailuresMax = 3;
  /// Operations that expire sooner than this after the first unanswered request prove nothing.
  static constexpr Nanos kSilenceMin = milliseconds(200);
  /// A lost node that has others beside it is waited for so long: enough for a connection that
  /// broke, too short to hold up what the others deliver.
  static constexpr Nanos kPatience = milliseconds(100);

  class Listener {
   public:
    virtual void session_up(uint32_t node) = 0;
    /// Nobody is there to wait for.
    virtual void session_skipped(uint32_t node, const Status& why) = 0;
    /// The outcome of the first attempt; once.
    virtual void first_attempt(uint32_t node, const Status& result) = 0;

   protected:
    ~Listener() = default;
  };
  struct Parts {
    Loop* loop;
    Links* links;
    ControlChannel* control;
    Worker* worker;
    NamespaceBook* namespaces;
    ClientCounters* counters;
    Listener* listener;
    uint32_t node;  // its place in config.endpoints
  };
  NodeSession(const Parts& parts, const ClientConfig& config);
  ~NodeSession();

  void connect() { begin_attempt(); }
  /// No attempts from here on. The transport's close() ends the peer.
  void close();
  /// Others are there: nobody waits for this one until it is up.
  void skip_unless_up();

  bool up() const { return state() == State::up; }
  PeerId peer() const { return peer_; }
  /// Changes with every session; leases of another epoch are lost.
  uint16_t epoch() const { return epoch_; }
  /// The node said something, whatever it was.
  void heard();
  void sent();
  /// An operation begun at `begun` expired.
  void expired(Nanos begun);
  /// True when it was this session's peer.
  bool peer_closed(PeerId peer);

  // Any thread.
  State state() const { return state_.load(std::memory_order_acquire); }
  NodeInfo info() const;
  const std::string& endpoint() const { return endpoint_; }
  /// Worker thread: the secret of the newest session.
  const SessionSecret& secret() const { return secret_; }

 private:
  struct Connected final : Op {
    explicit Connected(NodeSession* s) : owner(s) {}
    void done(Status result) override { owner->connected(std::move(result)); }
    NodeSession* const owner;
  };
  void begin_attempt();
  void negotiate(Nanos timeout);  // worker thread
  StatusOr<SessionOffer> open_all(Nanos timeout);
  void offered(StatusOr<SessionOffer> offer);
  /// Why the session cannot be over shared memory: no socket, another host, it failed lately.
  Status shm_possible() const;
  StatusOr<PeerId> connect_tcp();
  StatusOr<PeerId> connect_shm();
  void connect_failed(const Status& why);
  void exchange_queue_pairs();
  void queue_pairs(PeerId peer, const StatusOr<std::string>& theirs);
  void connected(Status result);
  void failed(const Status& why);
  void retry_later();
  void set_state(State state) { state_.store(state, std::memory_order_release); }

  const Parts parts_;
  const ClientConfig config_;
  const std::string endpoint_;
  std::atomic<State> state_{State::connecting};
  Timer retry_;
  Timer patience_;
  Connected connected_op_;
  Prng prng_;
  PeerId peer_{};
  bool has_peer_ = false;  // from a finished connect until it is closed
  bool first_ = true;      // the first attempt has no outcome yet
  uint32_t failures_ = 0;  // since a session that was not short
  uint32_t silent_expiries_ = 0;
  Nanos silent_since_{0};  // the first request since the node was heard; 0: none
  Nanos last_heard_{0};
  uint16_t epoch_ = 0;
  SessionSecret secret_{};  // worker thread
  SessionOffer offer_;      // of this attempt
  Nanos connect_by_{0};     // when this attempt ends
  DataPath trying_ = DataPath::tcp;
  // Shared memory that does not work costs a while of TCP, not the session.
  Nanos avoid_shm_until_{0};
  Nanos up_since_{0};
  uint32_t short_sessions_ = 0;  // over shared memory, one after the other
  mutable std::mutex mutex_;
  NodeInfo node_;  // guarded by mutex_
};
}  // namespace terrace
