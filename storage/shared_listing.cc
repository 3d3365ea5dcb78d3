// Listing the shared tier in the background: namespace by namespace, a few folders per call, one
// call at a time. Threads build what the loop then only swaps in.
#include "storage/shared_listing.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "storage/core.h"

namespace terrace {

void SharedTier::begin_pass() {
  if (stopped_ || listing_ != nullptr) return;
  listing_ = std::make_unique<Listing>();
  listing_->namespaces = set_.namespaces();
  list_namespace();
}

void SharedTier::pass_over() {
  listing_.reset();
  if (!stopped_) core_.loop->arm(&next_pass_, core_.loop->now() + core_.config.shared_list_period);
}

/// Which folders the next namespace has.
void SharedTier::list_namespace() {
  if (stopped_ || listing_->namespaces.empty()) return pass_over();
  const NamespaceId ns = listing_->namespaces.back();
  const auto found = std::make_shared<std::vector<uint32_t>>();
  set_.listing_begins();
  SharedCall call;
  call.lane = SharedLane::background;
  call.work = [medium = medium_, digest = *set_.digest_of(ns), found]() -> Status {
    TERRACE_ASSIGN_OR_RETURN(
        const std::vector<std::string> names,
        medium->list(std::string(kSharedObjects) + "/" + digest.hex(), 2 * kSharedFolders));
    for (const std::string& name : names) {
      if (const auto folder = parse_shared_folder(name)) found->push_back(*folder);
    }
    std::sort(found->begin(), found->end());
    return ok_status();
  };
  call.then = [this, ns, found](const Status& result) {
    if (!result.ok()) {
      core_.metrics.shared.listing_failures.add();
      return pass_over();
    }
    set_.keep_only(ns, *found);
    listing_->folders = std::move(*found);
    list_folders();
  };
  if (!calls_.start(std::move(call)).ok()) {
    core_.metrics.shared.listing_failures.add();
    pass_over();
  }
}

void SharedTier::list_folders() {
  std::vector<uint32_t>& left = listing_->folders;
  if (left.empty() || stopped_) {
    listing_->namespaces.pop_back();
    core_.metrics.shared.listings.add();
    update_gauges();
    return list_namespace();
  }
  using Found = std::vector<std::pair<uint32_t, SharedSet::Folder>>;
  const auto found = std::make_shared<Found>();
  const size_t count = std::min(kFoldersPerCall, left.size());
  const std::vector<uint32_t> part(left.end() - static_cast<ptrdiff_t>(count), left.end());
  left.resize(left.size() - count);
  const NamespaceId ns = listing_->namespaces.back();
  set_.listing_begins();
  SharedCall call;
  call.lane = SharedLane::background;
  call.work = [medium = medium_, digest = *set_.digest_of(ns), part, found,
               clock = &core_.loop->clock(),
               time = Nanos(core_.config.shared_timeout) / 4]() -> Status {
    const Nanos until = clock->now() + time;
    for (const uint32_t folder : part) {
      if (clock->now() > until) break;  // a slow file system, not one that hangs
      TERRACE_ASSIGN_OR_RETURN(
          const std::vector<std::string> names,
          medium->list(shared_folder_path(digest, folder), kNamesPerFolderMax));
      SharedSet::Folder listed;
      for (const std::string& name : names) {
        if (const auto leaf = parse_shared_leaf(name)) listed.add(leaf->key, leaf->generation);
      }
      found->emplace_back(folder, std::move(listed));
    }
    return ok_status();
  };
  call.then = [this, ns, part, found](const Status& result) {
    if (!result.ok()) {
      core_.metrics.shared.listing_failures.add();
      return pass_over();
    }
    listing_->folders.insert(listing_->folders.end(),
                             part.begin() + static_cast<ptrdiff_t>(found->size()), part.end());
    for (auto& [folder, listed] : *found) {
      if (!set_.replace(ns, folder, std::move(listed))) {
        core_.metrics.shared.listings_cut_short.add();
      }
    }
    list_folders();
  };
  if (!calls_.start(std::move(call)).ok()) {
    core_.metrics.shared.listing_failures.add();
    pass_over();
  }
}
}  // namespace terrace
