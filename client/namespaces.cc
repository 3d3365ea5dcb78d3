#include "client/namespaces.h"

#include "base/limits.h"

namespace terrace {

ObjectShape shape_of(const Geometry& geometry) {
  ObjectShape shape;
  if (geometry.layers.empty()) {
    shape.layer_source = {0};
    return shape;
  }
  shape.sections = sections_of(geometry, geometry.tokens_per_chunk);
  const std::vector<uint16_t> order = geometry.order();
  std::vector<uint16_t> position(order.size());
  for (size_t p = 0; p < order.size(); ++p) position[order[p]] = static_cast<uint16_t>(p);
  shape.section_starts.push_back(0);
  for (const SectionSpec& section : shape.sections) {
    shape.section_starts.push_back(shape.section_starts.back() + section.bytes);
    shape.section_layer.push_back(position[section.layer]);
  }
  for (const uint16_t layer : order) {
    uint16_t holder = layer;
    // An alias names an earlier layer, so this ends.
    while (geometry.layers[holder].alias_of >= 0) {
      holder = static_cast<uint16_t>(geometry.layers[holder].alias_of);
    }
    shape.layer_source.push_back(position[holder]);
  }
  return shape;
}

NamespaceInfo info_of(const std::string& name, const Fingerprint& fingerprint) {
  NamespaceInfo info;
  info.name = name;
  info.canonical = canonical_bytes(fingerprint);
  info.digest = digest_of(fingerprint);
  info.tokens_per_chunk = fingerprint.geometry.tokens_per_chunk;
  info.shape = std::make_shared<const ObjectShape>(shape_of(fingerprint.geometry));
  return info;
}

NamespaceId NamespaceBook::add(std::shared_ptr<const NamespaceInfo> info, uint32_t node,
                               uint32_t wire) {
  const std::lock_guard lock(mutex_);
  for (auto& [ns, entry] : entries_) {
    // One name with two fingerprints is two namespaces: of nodes that disagree, or of a node that
    // came back empty.
    if (entry.info->name != info->name || entry.info->canonical != info->canonical) continue;
    entry.wires.insert_or_assign(node, wire);
    return ns;
  }
  NamespaceId ns{wire};
  while (entries_.contains(ns)) ns = NamespaceId{static_cast<uint32_t>(ns) + kNamespacesMax};
  entries_.emplace(ns, Entry{std::move(info), {{node, wire}}});
  return ns;
}

StatusOr<std::shared_ptr<const NamespaceInfo>> NamespaceBook::find(NamespaceId ns) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(ns);
  if (found != entries_.end()) return found->second.info;
  return error(
      StatusCode::kInvalidArgument,
      "namespace " + std::to_string(static_cast<uint32_t>(ns)) + " was not opened by this client");
}

StatusOr<uint32_t> NamespaceBook::wire(NamespaceId ns, uint32_t node) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(ns);
  if (found == entries_.end()) return error(StatusCode::kInvalidArgument, "unknown namespace");
  const auto wire = found->second.wires.find(node);
  if (wire != found->second.wires.end()) return wire->second;
  return error(StatusCode::kUnavailable,
               "the node has not opened namespace \"" + found->second.info->name + "\" yet");
}

void NamespaceBook::set_wire(NamespaceId ns, uint32_t node, StatusOr<uint32_t> wire) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(ns);
  if (found != entries_.end()) found->second.wires.insert_or_assign(node, std::move(wire));
}

std::vector<NamespaceBook::Listed> NamespaceBook::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<Listed> all;
  for (const auto& [ns, entry] : entries_) all.push_back({ns, entry.info});
  return all;
}
}  // namespace terrace
