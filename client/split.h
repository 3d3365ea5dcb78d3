// client/split.h - one operation's keys, split by the node that owns them. Pure.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/rendezvous.h"

namespace terrace {

/// The items of one operation that lie on one node, by their index in the caller's list. A range:
/// `for (const size_t i : share)`.
class Share {
 public:
  /// All of `count` items; costs no list.
  static Share all(uint32_t node, size_t count) { return {node, count, {}}; }
  /// `items` ascend.
  static Share some(uint32_t node, std::vector<uint32_t> items) {
    const size_t count = items.size();
    return {node, count, std::move(items)};
  }
  uint32_t node() const { return node_; }
  size_t size() const { return count_; }
  size_t operator[](size_t place) const { return items_.empty() ? place : items_[place]; }

  class Iterator {
   public:
    Iterator(const Share* share, size_t place) : share_(share), place_(place) {}
    size_t operator*() const { return (*share_)[place_]; }
    Iterator& operator++() {
      ++place_;
      return *this;
    }
    bool operator!=(const Iterator& other) const { return place_ != other.place_; }

   private:
    const Share* share_;
    size_t place_;
  };
  Iterator begin() const { return {this, 0}; }
  Iterator end() const { return {this, count_}; }

 private:
  Share(uint32_t node, size_t count, std::vector<uint32_t> items)
      : node_(node), count_(count), items_(std::move(items)) {}
  uint32_t node_;
  size_t count_;
  std::vector<uint32_t> items_;  // empty: all
};

/// `owners`: of each item, in the caller's order. The shares that are not empty, by node.
std::vector<Share> shares_of(std::span<const uint32_t> owners, uint32_t nodes);

/// The same for items that have a `key`. At least one item.
template <class Item>
std::vector<Share> split(const Rendezvous& nodes, std::span<const Item> items) {
  if (nodes.nodes() == 1) return {Share::all(0, items.size())};
  std::vector<uint32_t> owners;
  owners.reserve(items.size());
  for (const Item& item : items) {
    if constexpr (std::is_same_v<Item, ChunkKey>) {
      owners.push_back(nodes.owner(item));
    } else {
      owners.push_back(nodes.owner(item.key));
    }
  }
  return shares_of(owners, nodes.nodes());
}
}  // namespace terrace
