// client/delivery_check.h - decides what a node may write where for a fetch, and whether the bytes
// that came are the right ones. Pure: values in, values out; no thread, no I/O.
//
// An item is whole only when every byte that was asked for arrived exactly once and matched its
// checksum. The node's own word is never enough.
#pragma once
#include <array>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "client/namespaces.h"
#include "client/regions.h"
#include "proto/fragment_map.h"
#include "proto/message_kind.h"

namespace terrace {

/// Disjoint ranges; neighbours merge.
class RangeSet {
 public:
  /// False, and nothing changes, when it overlaps one that is there.
  bool insert(ByteRange range);
  size_t size() const { return ranges_.size(); }

 private:
  std::map<uint64_t, uint64_t> ranges_;  // begin -> end
};

class DeliveryCheck {
 public:
  struct Item {
    ChunkKey key;
    FragmentMap map;
  };
  DeliveryCheck(std::vector<Item> items, std::shared_ptr<const ObjectShape> shape);

  /// May a write that carries `deliveries` go to `targets`? OK claims those bytes: each only once.
  /// kInternal: they are not what the request's fragments say, were not asked for, or came before;
  /// the message names the place. After a refusal the fetch cannot go on.
  Status claim(std::span<const Delivery> deliveries, std::span<const RemoteSpan> targets);
  /// The bytes of claimed deliveries are in place: checks them there. A mismatch fails the item
  /// with kDataLoss and counts; the others go on. `verify` false skips only the checksums.
  /// `unit_sums`: CRC32C of the units as they were copied, one per length of unit_lengths(); empty:
  /// the bytes are read again.
  void landed(std::span<const Delivery> deliveries, const RegionUses& memory, bool verify,
              std::span<const uint32_t> unit_sums);
  /// Appends the lengths of the deliveries' units, and parts of units, in payload order.
  static void unit_lengths(std::span<const Delivery> deliveries, std::vector<uint32_t>* lengths);

  /// Layers of the need order that are whole for every item. A failed item holds it where it is:
  /// no layer counts as ready while one of its keys holds wrong bytes there.
  uint32_t layers_ready() const { return layers_ready_; }
  size_t items() const { return items_.size(); }
  const ChunkKey& key(size_t item) const { return items_[item].key; }
  bool whole(size_t item) const;
  bool failed(size_t item) const { return states_[item].failed; }
  /// Bytes that arrived and were accepted as right, of all items.
  uint64_t bytes_good() const { return bytes_good_; }
  /// The same by the tier they came from.
  const std::array<uint64_t, kTierCount>& tier_bytes() const { return tier_bytes_; }
  uint64_t bytes_verified() const { return bytes_verified_; }
  uint64_t crc_failures() const { return crc_failures_; }

 private:
  struct ItemState {
    RangeSet claimed;
    uint64_t bytes_good = 0;
    bool failed = false;
    std::map<uint32_t, uint64_t> section_starts;  // raw objects: as the node first said
  };
  Status check_place(const Delivery& delivery);
  bool matches(const Delivery& delivery, const RegionUses& memory,
               std::span<const uint32_t> unit_sums) const;
  void add_needed(const FragmentMap& map);
  void advance();

  const std::vector<Item> items_;
  const std::shared_ptr<const ObjectShape> shape_;
  std::vector<ItemState> states_;
  std::vector<uint64_t> missing_;  // bytes still to come, by position in the need order
  uint32_t layers_ready_ = 0;
  std::array<uint64_t, kTierCount> tier_bytes_{};
  uint64_t bytes_good_ = 0, bytes_verified_ = 0, crc_failures_ = 0;
};

/// Whether two lists name the same bytes in the same order, however they are cut.
bool same_places(std::span<const RemoteSpan> a, std::span<const RemoteSpan> b);
}  // namespace terrace
