#include "client/split.h"

namespace terrace {

std::vector<Share> shares_of(std::span<const uint32_t> owners, uint32_t nodes) {
  std::vector<std::vector<uint32_t>> by_node(nodes);
  for (size_t i = 0; i < owners.size(); ++i) {
    by_node.at(owners[i]).push_back(static_cast<uint32_t>(i));
  }
  std::vector<Share> shares;
  for (uint32_t node = 0; node < nodes; ++node) {
    if (by_node[node].empty()) continue;
    if (by_node[node].size() == owners.size()) return {Share::all(node, owners.size())};
    shares.push_back(Share::some(node, std::move(by_node[node])));
  }
  return shares;
}
}  // namespace terrace
