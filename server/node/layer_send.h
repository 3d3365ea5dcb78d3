// server/node/layer_send.h - streams sections from the tiers to a client's memory, layer by layer.
//
// Source: ChunkStore reads; sink: transport writes. A window of bytes, in slots of at most one
// frame each, reads ahead of the wire; frames leave in layer order, small ones together. The window
// opens as reads complete, so that the first layer has the device for itself. Loop thread only.
#pragma once
#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "proto/fragment_map.h"
#include "server/node/delivery_cursor.h"
#include "server/node/session.h"

namespace terrace {

class LayerSend {
 public:
  /// One object of the fetch. `reader` is open exactly when `code` is kOk.
  struct Item {
    ChunkKey key;
    FragmentMap map;
    ChunkReader reader;
    StatusCode code = StatusCode::kOk;
  };
  /// `items` outlive the send; their codes turn from kOk to the first error of each.
  LayerSend(NodeContext* context, const Session& session, Lane lane, uint64_t tag,
            std::vector<std::unique_ptr<Item>>* items);
  ~LayerSend();
  /// `op` is done once, when nothing is in flight any more.
  void start(Op* op);
  /// Starts nothing new and recalls what is queued.
  void cancel();
  uint64_t frames() const { return frames_; }
  const std::array<uint64_t, kTierCount>& tier_bytes() const { return tier_bytes_; }

 private:
  /// One frame on its way: read, then sent when its turn comes.
  struct Slot final : Op {
    enum class State : uint8_t { free, reading, ready, writing };
    explicit Slot(LayerSend* o) : owner(o) {}
    void done(Status result) override { owner->slot_done(this, std::move(result)); }
    LayerSend* const owner;
    State state = State::free;
    Piece piece;
    ReadBuffer buffer;
    std::vector<Slot*> frame;  // writing: this one and the small ones that left with it
  };
  static constexpr size_t kSlotsMax =
      128;  // small sections: so many reads ahead, not a window full
  void pump();
  bool window_open();
  bool read_next(Slot* slot);
  void slot_done(Slot* slot, Status result);
  void send_ready();
  std::vector<Slot*> next_frame() const;
  Status send(std::vector<Slot*> frame);
  void free_slot(Slot* slot);
  void fail_item(uint32_t item, StatusCode code);
  void finish_when_idle();

  NodeContext* const context_;
  const PeerId peer_;
  const uint64_t tag_;
  std::vector<std::unique_ptr<Item>>* const items_;
  std::unique_ptr<DeliveryCursor> cursor_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<Slot*> free_;
  uint64_t window_ = 0;         // bytes; grows to what the configuration allows
  uint64_t window_used_ = 0;    // the last slot taken may have overdrawn it
  std::deque<Slot*> in_order_;  // reading or ready, as the client will get them
  PacedFlow flow_;
  Timer retry_;
  Op* op_ = nullptr;
  bool exhausted_ = false;
  bool cancelled_ = false;
  uint32_t busy_ = 0;  // slots that wait for a done()
  uint64_t frames_ = 0;
  std::array<uint64_t, kTierCount> tier_bytes_{};
};
}  // namespace terrace
