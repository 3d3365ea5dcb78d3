// client/client_op.h - one operation on one node, the whole or a part of what the engine asked for,
// from submit to its one completion. Made on the engine's thread, then lives on the loop thread.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "base/loop.h"
#include "client/terrace.h"
#include "proto/message_kind.h"
#include "transport/transport.h"

namespace terrace {

class Operations;

class ClientOp {
 public:
  struct Head {
    OpId id{};
    uint64_t user_tag = 0;
    Nanos submitted{0};
    Nanos deadline{0};  // on the loop's clock
    NamespaceId ns{};
    Priority priority = Priority::load;
    uint32_t node = 0;  // whose keys these are
    OpId joined{};      // the operation that this is part `part` of; 0: it is whole
    uint32_t part = 0;
  };
  ClientOp();
  ClientOp(const ClientOp&) = delete;
  ClientOp& operator=(const ClientOp&) = delete;
  virtual ~ClientOp();

  Head head;

  // Called by Operations.

  /// The deadline runs from here on.
  void adopt(Operations* operations);
  /// The session is up, and knows the namespace as `ns`. Sends what there is to send.
  void start(uint32_t ns);
  bool started() const { return started_; }
  /// Ends the operation early: cancelled, expired, or the node is lost. It completes once nothing
  /// can touch the engine's memory any more.
  void end(const Status& why, bool peer_is_gone = false);

  /// `sub` is what the operation gave open_tag().
  virtual void on_message(uint32_t sub, const Message& message) = 0;
  virtual bool accept_write(const IncomingWrite&, std::vector<uint32_t>*) { return false; }
  virtual void on_write(const IncomingWrite&) {}
  virtual Status accept_read(uint32_t sub, std::span<const RemoteSpan> spans);
  /// A bounded piece of computing; true when there is more.
  virtual bool slice() { return false; }
  virtual void source_ready(uint32_t, uint32_t, uint32_t) {}
  /// A put's turn came after take_put_credit() had none.
  virtual void on_credit() {}

 protected:
  virtual Status on_start(uint32_t ns) = 0;
  /// Writes the result; `why` is OK unless the operation ended early.
  virtual void fill(const Status& why, Completion* completion) = 0;
  /// Lets go of the engine's memory, before the completion can be seen.
  virtual void release_memory() {}
  /// A quiesce() of an operation that has not ended is done.
  virtual void on_quiesced() {}

  Operations* operations() { return operations_; }
  bool ending() const { return ending_; }
  bool quiescing() const { return quiescing_ > 0; }
  /// A new tag on the wire for part `sub`. `touches_memory`: its end needs a quiesce.
  uint64_t open_tag(uint32_t sub, bool touches_memory);
  /// Nothing with this tag is expected any more.
  void close_tag(uint64_t tag);
  /// Stops what the peer may do with this tag, then on_quiesced().
  void quiesce(uint64_t tag);
  /// Completes now: nothing touches memory any more.
  void finish(const Status& why);
  /// Ends the operation on the next turn: for use inside the transport's callbacks.
  void end_later(Status why);
  /// Milliseconds left, at least 1.
  uint32_t deadline_ms() const;

 private:
  struct Quiesced final : Op {
    explicit Quiesced(ClientOp* o) : owner(o) {}
    void done(Status) override { owner->quiesce_done(); }
    ClientOp* const owner;
  };
  struct Tag {
    uint64_t tag = 0;
    bool touches_memory = false;
  };
  void quiesce_done();

  Operations* operations_ = nullptr;
  Timer deadline_timer_;
  std::vector<Tag> tags_;
  std::vector<std::unique_ptr<Quiesced>> quiesces_;
  uint32_t quiescing_ = 0;
  Nanos begun_{0};
  bool started_ = false;
  bool ending_ = false;
  bool finished_ = false;
  Status why_;
};
}  // namespace terrace
