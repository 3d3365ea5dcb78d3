// What a put must be before it may begin, and what is said when it may not.
#include <string>

#include "storage/core.h"
#include "storage/puts.h"
#include "storage/shared_tier.h"

namespace terrace {
namespace {

Status invalid(const std::string& what) {
  return error(StatusCode::kInvalidArgument, "put: " + what);
}
}  // namespace

Status Puts::validate(const PutSpec& spec) const {
  if (spec.sections.empty() || spec.sections.size() > kSectionsMax) {
    return invalid(std::to_string(spec.sections.size()) + " sections; 1 to " +
                   std::to_string(kSectionsMax));
  }
  uint64_t bytes = 0;
  for (size_t i = 0; i < spec.sections.size(); ++i) {
    const SectionSpec& section = spec.sections[i];
    if (section.bytes == 0 || section.bytes > kObjectBytesMax) {
      return invalid("section " + std::to_string(i) + " has " + std::to_string(section.bytes) +
                     " bytes; 1 to " + std::to_string(kObjectBytesMax));
    }
    if (section.codec != Codec::identity) return invalid("section with an unknown codec");
    bytes += section.bytes;
  }
  if (bytes > kObjectBytesMax) {
    return invalid(std::to_string(bytes) + " bytes; at most " + std::to_string(kObjectBytesMax));
  }
  if (spec.raw_key.size() > kRawKeyBytesMax) return invalid("raw key over 1 KiB");
  if (spec.user_meta.size() > kUserMetaBytesMax) return invalid("user metadata over 4 KiB");
  if (const Status good = spec.retention.validate(); !good.ok()) return invalid(good.message());
  return ok_status();
}

Status Puts::check_durability(const PutSpec& spec) const {
  if (spec.durability == Durability::nvme && !core_.nvme_works()) {
    return error(StatusCode::kUnavailable, core_.has_nvme()
                                               ? "put: the nvme device hangs"
                                               : "put: durability nvme on a node without nvme");
  }
  if (spec.durability == Durability::shared) {
    if (core_.shared == nullptr) {
      return error(StatusCode::kUnavailable,
                   "put: durability shared on a node without a shared tier");
    }
    if (!core_.shared->works(spec.ns)) {
      return error(StatusCode::kUnavailable, "put: the shared tier does not answer");
    }
  }
  return ok_status();
}

Status Puts::check_quota(const Put& put) const {
  if (put.spec.retention.pin) {
    TERRACE_RETURN_IF_ERROR(
        core_.retainer.check_quota(put.spec.ns, put.logical_bytes, put.spec.pinned_bytes_max));
  }
  const uint64_t max = put.spec.namespace_bytes_max;
  if (max == 0) return ok_status();
  const auto ns = static_cast<uint32_t>(put.spec.ns);
  uint64_t bytes = put.stored_bytes;
  if (const auto it = core_.usage.find(ns); it != core_.usage.end()) bytes += it->second.bytes;
  if (const auto it = core_.putting.find(ns); it != core_.putting.end()) bytes += it->second;
  if (const uint32_t replaced = core_.find(put.spec.ns, put.spec.key); replaced != kNoEntry) {
    bytes -= core_.index[replaced].stored_bytes();
  }
  if (bytes <= max) return ok_status();
  return error(StatusCode::kResourceExhausted,
               "put: quota of namespace " + std::to_string(ns) + ": " + std::to_string(bytes) +
                   " bytes with this object, the limit is " + std::to_string(max));
}

Status Puts::no_room(const Put& put) const {
  const Arena& arena = *core_.arena;
  const DomainId domain = core_.domain_of(put.spec.ns);
  const size_t held = core_.balancer.held(domain);
  const size_t share = core_.balancer.share();
  std::string what = "put of " + put.spec.key.hex() + ": no room in dram for " +
                     std::to_string(put.stored_bytes) +
                     " bytes; dram_bytes=" + std::to_string(arena.capacity_bytes());
  if (put.stored_bytes > arena.capacity_bytes()) {
    what += ": raise it";
  } else if (held == 0 && share == 0) {
    what += ", and its " + std::to_string(arena.slab_count()) + " slabs of " +
            std::to_string(arena.slab_bytes()) +
            " bytes belong to other tenants, one each: raise dram_bytes or lower slab_bytes";
  } else {
    what += "; the tenant has " + std::to_string(held) + " of " +
            std::to_string(arena.slab_count()) + " slabs of " + std::to_string(arena.slab_bytes()) +
            " bytes, its fair share is " + std::to_string(share) +
            ", and what lies there is in use: try again, put fewer at " +
            "once, or raise dram_bytes";
  }
  return error(StatusCode::kResourceExhausted, what);
}
}  // namespace terrace
