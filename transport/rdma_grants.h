// transport/rdma_grants.h - the writes and reads that one peer asked for: checked, shown to the
// handler, granted on a lane, and over when the bytes are in place; or taken back. One slot per
// number inside the peer's window. Thread-confined.
#pragma once
#include <array>
#include <span>
#include <vector>

#include "transport/rdma_shared.h"

namespace terrace {

class RdmaGrants {
 public:
  RdmaGrants(RdmaShared* shared, RdmaLink* link) : shared_(shared), link_(link) {}

  // Records of the peer. Non-OK ends the peer.
  Status asked(const RdmaRecord& record, std::span<const std::byte> body);
  Status finished(uint64_t id);
  void abandoned(uint64_t id);
  /// What a record of the peer says of its numbers below `id`; call before what it does itself.
  /// Steps say it in order; messages, which steps may overtake, say 0.
  Status unfinished(uint64_t id);
  /// A write's immediate came over `path`. Non-OK ends the peer.
  Status immediate_came(size_t path, uint32_t immediate);

  /// As Transport::quiesce().
  void quiesce(uint64_t tag, Op* op);
  /// Something was granted and is not in place: the peer is at work.
  bool granted_any() const;

  void lane_lost(size_t path);
  /// A lane is there, or memory is known: grants what waited for it.
  void try_held();
  /// Takes lanes away from under what was to be quiet and is not. When to come again.
  Nanos release_due(Nanos now);
  /// The peer is gone and so are its queue pairs: unpins everything, completes quiesces.
  void end();

 private:
  enum class State : uint8_t { free, held, granted, landed };
  struct Slot {
    State state = State::free;
    bool is_write = false;
    bool quiet = false;  // its tag was quiesced: nobody is told
    bool again = false;  // its queue pair was lost
    uint8_t path = 0;
    uint64_t id = 0;
    uint64_t tag = 0;
    uint32_t immediate = 0;
    uint32_t bytes = 0;
    std::vector<RemoteSpan> spans;
    std::vector<iovec> places;
    std::vector<std::byte> body;
  };
  struct Quiesce {
    uint64_t tag = 0;
    Op* op = nullptr;
    Nanos release_at{0};
  };

  Slot* find(uint64_t id);
  Status decide(Slot* slot, bool* wanted, StatusCode* code);
  void try_grant(Slot* slot);
  void refuse(Slot* slot, StatusCode code);
  Status arrive(Slot* slot);
  void clear(Slot* slot);
  void unpin(Slot* slot);
  bool touches(uint64_t tag) const;
  void settle_quiesces();

  RdmaShared* const shared_;
  RdmaLink* const link_;
  std::array<Slot, kRdmaTransfers> slots_;
  std::array<uint64_t, kRdmaPathsMax> granted_bytes_{};  // by path
  uint64_t next_id_ = 1;
  uint64_t unfinished_ = 1;
  uint64_t body_bytes_ = 0;
  std::vector<Quiesce> quiesces_;
};
}  // namespace terrace
