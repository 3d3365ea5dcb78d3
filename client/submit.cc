// The submitting calls: everything that can be wrong with the arguments is said here, on the
// engine's thread, before anything is started.
#include <algorithm>
#include <string>

#include "base/limits.h"
#include "base/prefix_rule.h"
#include "client/core.h"
#include "client/fetch_op.h"
#include "client/item_places.h"
#include "client/put_op.h"
#include "client/request_op.h"
#include "proto/retention_hints.h"

namespace terrace {
namespace {

constexpr std::chrono::milliseconds kDeadlineLongest = std::chrono::hours(1);
constexpr std::chrono::milliseconds kLeaseLongest = std::chrono::seconds(60);

Status bad(const std::string& what) {
  return error(StatusCode::kInvalidArgument, what);
}

Status check_count(const char* what, size_t count, size_t max) {
  if (count >= 1 && count <= max) return ok_status();
  return bad(std::string(what) + ": " + std::to_string(count) + "; 1 to " + std::to_string(max));
}

Status check_body(const char* what, size_t bytes) {
  if (bytes + 64 <= kBodyBytesMax) return ok_status();  // 64: what is filled in later
  return bad(std::string(what) + ": a request of " + std::to_string(bytes) + " bytes; at most " +
             std::to_string(kBodyBytesMax - 64) + " (fewer keys or fragments)");
}

StatusOr<uint32_t> lease_ms(const LookupOptions& options) {
  if (options.lease.count() < 0 || options.lease > kLeaseLongest) {
    return bad("lease of " + std::to_string(options.lease.count()) + " ms; 0 to " +
               std::to_string(kLeaseLongest.count()));
  }
  return static_cast<uint32_t>(options.lease.count());
}

std::string describe(std::span<const SectionSpec> sections) {
  uint64_t bytes = 0;
  for (const SectionSpec& section : sections) bytes += section.bytes;
  return std::to_string(sections.size()) + " sections of " + std::to_string(bytes) + " bytes";
}

/// A block that two chunks, or two parts of one, would be written to holds the wrong bytes of one
/// of them, though each was right when it came.
Status check_distinct(std::span<const FetchItem> items) {
  std::vector<uint32_t> ids;
  for (const FetchItem& item : items) {
    if (ids.size() + item.block_ids.size() > size_t{kNodesMax} * kBlockIdsPerRequestMax) {
      return bad("fetch: more block ids than " + std::to_string(kNodesMax) + " requests take");
    }
    ids.insert(ids.end(), item.block_ids.begin(), item.block_ids.end());
  }
  std::sort(ids.begin(), ids.end());
  const auto twice = std::adjacent_find(ids.begin(), ids.end());
  if (twice == ids.end()) return ok_status();
  return bad("fetch: block " + std::to_string(*twice) + " would be written to twice");
}

std::string in_item(size_t item, const Status& status) {
  return "item " + std::to_string(item) + ": " + status.message();
}

Status check_sections(std::span<const SectionSpec> sections) {
  TERRACE_RETURN_IF_ERROR(check_count("sections", sections.size(), kSectionsMax));
  uint64_t total = 0;
  for (const SectionSpec& section : sections) {
    if (section.bytes == 0 || section.bytes > kObjectBytesMax ||
        (total += section.bytes) > kObjectBytesMax) {
      return bad("section of " + std::to_string(section.bytes) + " bytes; 1 to " +
                 std::to_string(kObjectBytesMax) + " for the whole object");
    }
  }
  return ok_status();
}

StatusOr<std::vector<SectionSpec>> sections_for(const NamespaceInfo& ns, const PutItem& item) {
  if (item.sections.empty()) {
    if (ns.shape->raw()) {
      return bad("a raw object needs a section table: namespace \"" + ns.name + "\" has none");
    }
    return ns.shape->sections;
  }
  const std::vector<SectionSpec> sections(item.sections.begin(), item.sections.end());
  if (!ns.shape->raw() && sections != ns.shape->sections) {
    return bad("namespace \"" + ns.name + "\" stores chunks of " + describe(ns.shape->sections) +
               "; offered " + describe(sections) + " (a layer, kind or length differs)");
  }
  TERRACE_RETURN_IF_ERROR(check_sections(sections));
  return sections;
}

/// What travels of `map`: `fragments` or `blocks` of a request or of its item.
template <class Message>
void say_places(const FragmentMap& map, Message* message) {
  if (map.paged()) {
    message->set_blocks(pack_words(map.blocks()));
  } else {
    message->set_fragments(pack_fragments(map.fragments()));
  }
}

StatusOr<ClientPut::Item> put_item(const NamespaceInfo& ns, const PutItem& from,
                                   const PutOptions& options, ItemPlaces* places) {
  ClientPut::Item item;
  item.key = from.key;
  if (from.raw_key.size() > kRawKeyBytesMax) {
    return bad("raw key of " + std::to_string(from.raw_key.size()) + " bytes; at most " +
               std::to_string(kRawKeyBytesMax));
  }
  if (!(from.importance >= 0 && from.importance <= 1)) {
    return bad("importance of " + std::to_string(from.importance) + "; 0 to 1");
  }
  TERRACE_ASSIGN_OR_RETURN(item.sections, sections_for(ns, from));
  TERRACE_ASSIGN_OR_RETURN(item.map, places->next(from.fragments, from.block_ids));
  const uint64_t total = total_bytes(item.sections);
  if (!item.map.covers(total)) {
    return bad("fragments of " + std::to_string(item.map.bytes()) +
               " bytes do not cover the object's " + std::to_string(total) + " exactly once");
  }
  item.request = std::make_unique<proto::PutRequest>();
  item.request->set_key(pack_keys({&from.key, 1}));
  item.request->set_raw_key(std::string(from.raw_key));
  item.request->set_sections(pack_sections(from.sections));
  say_places(item.map, item.request.get());
  if (item.map.paged()) item.request->set_pool(places->packed_pool());
  item.request->set_durability(static_cast<uint32_t>(options.durability));
  item.request->set_recompute_us(from.recompute_us);
  if (from.importance != 1) item.request->set_importance(from.importance);
  if (!from.retention.plain()) {
    TERRACE_RETURN_IF_ERROR(from.retention.validate());
    pack_retention(from.retention, item.request->mutable_retention());
  }
  TERRACE_RETURN_IF_ERROR(check_body("put", item.request->ByteSizeLong()));
  return item;
}
}  // namespace

Status Client::Core::check_submit(const OpOptions& options) const {
  TERRACE_RETURN_IF_ERROR(check_usable());
  if (all_skipped()) {
    return error(StatusCode::kUnavailable, (nodes_.size() == 1 ? "node " : "each node, also ") +
                                               config_.endpoints[0] +
                                               " is skipped: it failed; a probe is under way");
  }
  if (options.deadline.count() < 0 || options.deadline > kDeadlineLongest) {
    return bad("deadline of " + std::to_string(options.deadline.count()) + " ms; 0 (default) to " +
               std::to_string(kDeadlineLongest.count()));
  }
  return ok_status();
}

StatusOr<ClientOp::Head> Client::Core::begin(NamespaceId ns, const OpOptions& options,
                                             std::vector<uint32_t> put_sections) {
  ClientOp::Head head;
  TERRACE_ASSIGN_OR_RETURN(head.id, completions_.begin(std::move(put_sections)));
  head.user_tag = options.user_tag;
  head.submitted = clock_.now();
  head.deadline =
      head.submitted + (options.deadline.count() > 0 ? options.deadline : config_.default_deadline);
  head.ns = ns;
  head.priority = options.priority;
  return head;
}

StatusOr<OpId> Client::Core::submit(std::unique_ptr<ClientOp> op, NamespaceId ns,
                                    const OpOptions& options, std::vector<uint32_t> put_sections) {
  TERRACE_ASSIGN_OR_RETURN(ClientOp::Head head, begin(ns, options, std::move(put_sections)));
  const OpId id = head.id;
  head.node = op->head.node;
  op->head = head;
  // A task must be copyable.
  auto box = std::make_shared<std::unique_ptr<ClientOp>>(std::move(op));
  const Status posted = loop_->post([this, box] { operations_->submit(std::move(*box)); });
  if (!posted.ok()) {
    completions_.abandon(id);
    return posted;
  }
  counters_.operations.add();
  return id;
}

StatusOr<OpId> Client::Core::lookup(NamespaceId ns, std::span<const ChunkKey> keys,
                                    const LookupOptions& options) {
  TERRACE_RETURN_IF_ERROR(check_submit(options));
  TERRACE_RETURN_IF_ERROR(check_count("lookup, keys", keys.size(), kKeysPerRequestMax));
  TERRACE_ASSIGN_OR_RETURN(const uint32_t lease, lease_ms(options));
  TERRACE_RETURN_IF_ERROR(namespaces_.find(ns).status());
  return submit_keys(ns, keys, options,
                     [lease](std::span<const ChunkKey> own) { return make_lookup(own, lease); });
}

StatusOr<OpId> Client::Core::match_prefix(NamespaceId ns, std::span<const GroupKeys> groups,
                                          const LookupOptions& options) {
  TERRACE_RETURN_IF_ERROR(check_submit(options));
  TERRACE_RETURN_IF_ERROR(check_count("match_prefix, groups", groups.size(), kKeysPerRequestMax));
  size_t keys = 0;
  for (const GroupKeys& group : groups) {
    if (group.keys.size() != groups[0].keys.size()) {
      return bad("match_prefix: groups of " + std::to_string(groups[0].keys.size()) + " and " +
                 std::to_string(group.keys.size()) + " keys; all need the same number");
    }
    keys += group.keys.size();
  }
  TERRACE_RETURN_IF_ERROR(
      check_count("match_prefix, keys of all groups together", keys, kKeysPerRequestMax));
  TERRACE_ASSIGN_OR_RETURN(const uint32_t lease, lease_ms(options));
  TERRACE_RETURN_IF_ERROR(namespaces_.find(ns).status());
  if (owners_.nodes() == 1) return submit(make_match(groups, lease), ns, options);
  const size_t chunks = groups[0].keys.size();
  std::vector<ChunkKey> all;
  std::vector<GroupPresence> presence;
  for (const GroupKeys& group : groups) {
    all.insert(all.end(), group.keys.begin(), group.keys.end());
    presence.push_back({std::vector<bool>(chunks), group.trailing});
  }
  // A node that holds all of the keys answers for the whole; else each says what it has, and the
  // rule is applied here.
  const auto make = [&](std::span<const ChunkKey> own) {
    return own.size() == all.size() ? make_match(groups, lease) : make_lookup(own, lease);
  };
  return submit_keys(ns, all, options, make, [presence, chunks](Completion* out) mutable {
    for (size_t g = 0; g < presence.size(); ++g) {
      for (size_t i = 0; i < chunks; ++i) {
        presence[g].present[i] = out->keys[g * chunks + i].code == StatusCode::kOk;
      }
    }
    out->restorable = restorable_prefixes(presence);
    out->longest = longest_prefix(out->restorable);
    out->keys.resize(chunks);
  });
}

StatusOr<OpId> Client::Core::fetch(NamespaceId ns, std::span<const FetchItem> items,
                                   const FetchOptions& options) {
  TERRACE_RETURN_IF_ERROR(check_submit(options));
  TERRACE_RETURN_IF_ERROR(check_count("fetch, items", items.size(), kKeysPerRequestMax));
  TERRACE_RETURN_IF_ERROR(check_distinct(items));
  TERRACE_ASSIGN_OR_RETURN(const Info info, namespaces_.find(ns));
  Join::Parts join{items.size(), split(owners_, items), true, nullptr};
  return submit_shares(std::move(join), ns, options,
                       [&](const Share& share) { return make_fetch(info, items, share, options); });
}

StatusOr<std::unique_ptr<ClientOp>> Client::Core::make_fetch(const Info& info,
                                                             std::span<const FetchItem> items,
                                                             const Share& share,
                                                             const FetchOptions& options) {
  ItemPlaces places(info->shape, &regions_);
  TERRACE_RETURN_IF_ERROR(places.use_pool(options.pool));
  auto request = std::make_unique<proto::FetchRequest>();
  request->set_pool(places.packed_pool());
  std::vector<DeliveryCheck::Item> checked;
  for (const size_t i : share) {
    StatusOr<FragmentMap> map = places.next(items[i].fragments, items[i].block_ids);
    if (!map.ok()) return bad(in_item(i, map.status()));
    if (!info->shape->raw() && map->runs().back().end() > info->shape->bytes()) {
      return bad("item " + std::to_string(i) + ": asks for bytes up to " +
                 std::to_string(map->runs().back().end()) + "; a chunk of namespace \"" +
                 info->name + "\" has " + std::to_string(info->shape->bytes()));
    }
    proto::FetchRequest::Item* item = request->add_items();
    item->set_key(pack_keys({&items[i].key, 1}));
    say_places(*map, item);
    checked.push_back({items[i].key, *std::move(map)});
  }
  TERRACE_RETURN_IF_ERROR(check_body("fetch", request->ByteSizeLong()));
  auto check = std::make_unique<DeliveryCheck>(std::move(checked), info->shape);
  return std::unique_ptr<ClientOp>(std::make_unique<ClientFetch>(ClientFetch::Parts{
      std::move(request), std::move(check), places.take_memory(), options.lease, config_.verify}));
}

StatusOr<OpId> Client::Core::put(NamespaceId ns, std::span<const PutItem> items,
                                 const PutOptions& options) {
  TERRACE_RETURN_IF_ERROR(check_submit(options));
  TERRACE_RETURN_IF_ERROR(check_count("put, items", items.size(), kKeysPerRequestMax));
  TERRACE_ASSIGN_OR_RETURN(const Info info, namespaces_.find(ns));
  std::vector<uint32_t> sections(items.size());
  const MakePart make = [&](const Share& share) {
    return make_put(info, items, share, options, &sections);
  };
  return submit_shares({items.size(), split(owners_, items), false, nullptr}, ns, options, make,
                       &sections);
}

StatusOr<std::unique_ptr<ClientOp>> Client::Core::make_put(const Info& info,
                                                           std::span<const PutItem> items,
                                                           const Share& share,
                                                           const PutOptions& options,
                                                           std::vector<uint32_t>* sections) {
  ItemPlaces places(info->shape, &regions_);
  TERRACE_RETURN_IF_ERROR(places.use_pool(options.pool));
  std::vector<ClientPut::Item> made;
  for (const size_t i : share) {
    StatusOr<ClientPut::Item> item = put_item(*info, items[i], options, &places);
    if (!item.ok()) return bad(in_item(i, item.status()));
    (*sections)[i] = static_cast<uint32_t>(item->sections.size());
    made.push_back(*std::move(item));
  }
  return std::unique_ptr<ClientOp>(std::make_unique<ClientPut>(
      ClientPut::Parts{std::move(made), places.take_memory(), options.sources_ready}));
}

StatusOr<OpId> Client::Core::generate_or_wait(NamespaceId ns, const ChunkKey& key,
                                              const GenerateOptions& options) {
  TERRACE_RETURN_IF_ERROR(check_submit(options));
  if (options.hold.count() <= 0 || options.hold > kRightHoldLongest) {
    return bad("hold of " + std::to_string(options.hold.count()) + " ms; 1 to " +
               std::to_string(kRightHoldLongest.count()));
  }
  TERRACE_RETURN_IF_ERROR(namespaces_.find(ns).status());
  const auto deadline = options.deadline.count() > 0 ? options.deadline : config_.default_deadline;
  // The node says that nobody was done in time before we do: silence would count against it.
  const auto patience = std::max<int64_t>(1, deadline.count() * 9 / 10 - 20);
  const auto make = [&](std::span<const ChunkKey>) {
    return make_generate(key, static_cast<uint32_t>(patience),
                         static_cast<uint32_t>(options.hold.count()));
  };
  return submit_keys(ns, {&key, 1}, options, make);
}

StatusOr<OpId> Client::Core::erase(NamespaceId ns, std::span<const ChunkKey> keys,
                                   const OpOptions& options) {
  TERRACE_RETURN_IF_ERROR(check_submit(options));
  TERRACE_RETURN_IF_ERROR(check_count("erase, keys", keys.size(), kKeysPerRequestMax));
  TERRACE_RETURN_IF_ERROR(namespaces_.find(ns).status());
  return submit_keys(ns, keys, options, make_erase);
}

StatusOr<OpId> Client::Core::list(NamespaceId ns, const std::string& cursor, uint32_t limit,
                                  const OpOptions& options) {
  TERRACE_RETURN_IF_ERROR(check_submit(options));
  TERRACE_RETURN_IF_ERROR(check_count("list, limit", limit, kKeysPerRequestMax));
  TERRACE_ASSIGN_OR_RETURN(const ListPlace place, parse_cursor(cursor, owners_.nodes()));
  TERRACE_RETURN_IF_ERROR(namespaces_.find(ns).status());
  std::unique_ptr<ClientOp> op = make_list(place, limit);
  op->head.node = place.node;
  return submit(std::move(op), ns, options);  // also to a skipped node: the cursor leads past it
}

StatusOr<OpId> Client::Core::view(NamespaceId ns, std::span<const ChunkKey> keys,
                                  const OpOptions& options, bool device) {
  TERRACE_RETURN_IF_ERROR(check_submit(options));
  if (device && config_.accelerator == nullptr) {
    return error(StatusCode::kFailedPrecondition,
                 "device_view: ClientConfig::accelerator is not set");
  }
  TERRACE_RETURN_IF_ERROR(check_count("view, keys", keys.size(), kKeysPerRequestMax));
  TERRACE_RETURN_IF_ERROR(namespaces_.find(ns).status());
  return submit_keys(ns, keys, options, [device](std::span<const ChunkKey> share) {
    return make_view(share, device);
  });
}
}  // namespace terrace
