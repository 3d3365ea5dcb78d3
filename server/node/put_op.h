// server/node/put_op.h - one put: admit, pull the bytes, verify each unit, commit, acknowledge.
#pragma once
#include <deque>
#include <memory>
#include <vector>

#include "proto/data.pb.h"
#include "proto/fragment_map.h"
#include "server/node/session.h"

namespace terrace {

class PutOp final : public Operation {
 public:
  /// kInvalidArgument (key, sections, fragments that do not cover the object, a section table that
  /// is not the namespace's: the message names both sides), kPermissionDenied (namespace).
  static StatusOr<std::unique_ptr<PutOp>> create(NodeContext* context, Session* session,
                                                 uint64_t tag, const proto::PutRequest& request);
  ~PutOp() override;
  void start() override;
  void cancel(StatusCode why) override;
  /// The client says that sections hold their bytes. A lie about counts ends the put.
  void source_ready(const proto::PutSource& source);
  /// Whether the put was admitted and waits for sources.
  bool admitted() const { return admitted_; }

 private:
  /// Up to kFramePayloadBytesMax of one section, read piece by piece, verified as a whole.
  struct Group {
    uint32_t section = 0;
    uint64_t offset = 0;
    uint64_t bytes = 0;
    std::vector<uint32_t> crcs;
  };
  struct Slot final : Op {
    explicit Slot(PutOp* o) : owner(o) {}
    void done(Status result) override { owner->slot_done(this, std::move(result)); }
    PutOp* const owner;
    bool busy = false;   // a read is in flight
    bool taken = false;  // `group` is to be read
    Group group;
    uint64_t at = 0;       // bytes of the group that have arrived
    uint64_t reading = 0;  // bytes of the read in flight
  };
  struct Opened final : Op {
    explicit Opened(PutOp* o) : owner(o) {}
    void done(Status result) override { owner->opened(std::move(result)); }
    PutOp* const owner;
  };
  struct Committed final : Op {
    explicit Committed(PutOp* o) : owner(o) {}
    void done(Status result) override { owner->committed(std::move(result)); }
    PutOp* const owner;
  };
  PutOp(NodeContext* context, Session* session, Lane lane, uint64_t tag);
  void opened(Status result);
  void pump();
  uint64_t plan_read(const Slot& slot, std::vector<RemoteSpan>* sources) const;
  Status read_more(Slot* slot, std::span<const RemoteSpan> sources);
  void slot_done(Slot* slot, Status result);
  void fail(Status why);
  void committed(Status result);
  void end(const Status& result);

  PutSpec spec_;
  FragmentMap map_;
  uint32_t deadline_ms_ = 0;
  ChunkWriter writer_;
  Opened opened_;
  Committed committed_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::deque<Group> waiting_;
  std::vector<bool> announced_;  // sections that source_ready named
  uint32_t sections_left_ = 0;
  uint32_t busy_ = 0;  // slots, the open or the commit that wait for a done()
  bool admitted_ = false;
  bool committing_ = false;
  PacedFlow flow_;
  Timer retry_;  // the client has as many reads as it takes
  Status failure_;
  uint64_t logical_bytes_ = 0;
};
}  // namespace terrace
