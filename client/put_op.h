// client/put_op.h - a batch of puts under one OpId. Each item has its own tag on the wire: asked
// for, admitted, its checksums sent as they are computed, its bytes read by the node. Loop thread
// once submitted.
#pragma once
#include <deque>
#include <memory>
#include <vector>

#include "client/client_op.h"
#include "client/regions.h"
#include "proto/data.pb.h"
#include "proto/fragment_map.h"

namespace terrace {

class ClientPut final : public ClientOp {
 public:
  struct Item {
    ChunkKey key;
    FragmentMap map;
    std::vector<SectionSpec> sections;
    std::unique_ptr<proto::PutRequest> request;  // all but namespace, deadline and priority
  };
  struct Parts {
    std::vector<Item> items;
    RegionUses memory;
    bool sources_ready;
  };
  static constexpr uint64_t kSliceBytes = 256 * kKiB;  // hashed per turn of the loop
  static constexpr uint32_t kItemsOnTheWire = 16;      // of one batch

  explicit ClientPut(Parts parts);
  ~ClientPut() override;
  void on_message(uint32_t sub, const Message& message) override;
  Status accept_read(uint32_t sub, std::span<const RemoteSpan> spans) override;
  bool slice() override;
  void source_ready(uint32_t item, uint32_t first, uint32_t count) override;
  void on_credit() override { pump(); }

 private:
  struct SectionRange {
    uint32_t first = 0;
    uint32_t count = 0;
  };
  struct State {
    enum class Phase : uint8_t { waiting, asked, admitted, settled } phase = Phase::waiting;
    StatusCode code = StatusCode::kOk;  // once settled
    uint64_t tag = 0;
    std::vector<RemoteSpan> places;    // where the node may read: by region and offset, disjoint;
                                       // until it is settled
    std::vector<uint64_t> starts;      // of the sections, in the object
    std::vector<bool> announced;       // sections that source_ready named
    std::deque<SectionRange> to_hash;  // announced, not yet sent
    uint32_t hashed = 0;               // sections of to_hash.front() that are hashed
    uint32_t sent = 0;                 // and of those, already sent
    uint64_t unsent_bytes = 0;         // of the sections hashed and not sent
    uint64_t at = 0;                   // bytes hashed of the next section
    std::vector<uint32_t> crcs;        // of the sections hashed and not sent
  };
  Status on_start(uint32_t ns) override;
  void fill(const Status& why, Completion* completion) override;
  void release_memory() override { parts_.memory.release(); }
  void on_quiesced() override { finish_when_settled(); }

  void pump();
  Status ask(uint32_t index);
  void admitted(uint32_t index);
  void settle(uint32_t index, const Status& outcome);
  void finish_when_settled();
  /// Hashes at most `budget` bytes of item `index`; returns how many, 0 when it has no more.
  uint64_t hash(uint32_t index, uint64_t budget);
  bool section_done(uint32_t index);
  Status send_source(uint32_t index);

  Parts parts_;
  std::vector<State> states_;
  uint32_t ns_ = 0;
  uint32_t next_ = 0;     // first item not yet asked for
  uint32_t on_wire_ = 0;  // asked for, not settled: each holds a credit
  uint32_t settled_ = 0;
  std::deque<uint32_t> hashing_;  // items with something to hash, at most one entry each
  Status first_error_;
};
}  // namespace terrace
