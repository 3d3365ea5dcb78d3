#include "storage/shared_set.h"

#include <algorithm>
#include <utility>

namespace terrace {

void SharedSet::Folder::add(const ChunkKey& key, SharedGeneration generation) {
  const auto [it, fresh] = names.try_emplace(key, generation);
  if (fresh) {
    bytes += generation.logical_bytes();
  } else if (it->second < generation) {
    bytes += generation.logical_bytes() - it->second.logical_bytes();
    it->second = generation;
  }
}

bool SharedSet::Folder::remove(const ChunkKey& key, SharedGeneration generation) {
  const auto it = names.find(key);
  if (it == names.end() || it->second != generation) return false;
  bytes -= generation.logical_bytes();
  names.erase(it);
  return true;
}

void SharedSet::know(NamespaceId ns, const NamespaceDigest& digest) {
  namespaces_[static_cast<uint32_t>(ns)].digest = digest;
}

const NamespaceDigest* SharedSet::digest_of(NamespaceId ns) const {
  const auto it = namespaces_.find(static_cast<uint32_t>(ns));
  return it == namespaces_.end() ? nullptr : &it->second.digest;
}

std::vector<NamespaceId> SharedSet::namespaces() const {
  std::vector<NamespaceId> all;
  for (const auto& [ns, names] : namespaces_) all.push_back(NamespaceId{ns});
  return all;
}

std::vector<NamespaceId> SharedSet::namespaces_of(const NamespaceDigest& digest) const {
  std::vector<NamespaceId> all;
  for (const auto& [ns, names] : namespaces_) {
    if (names.digest == digest) all.push_back(NamespaceId{ns});
  }
  return all;
}

std::optional<SharedGeneration> SharedSet::find(NamespaceId ns, const ChunkKey& key) const {
  const auto names = namespaces_.find(static_cast<uint32_t>(ns));
  if (names == namespaces_.end()) return std::nullopt;
  const auto folder = names->second.folders.find(shared_folder_of(key));
  if (folder == names->second.folders.end()) return std::nullopt;
  const auto it = folder->second.names.find(key);
  if (it == folder->second.names.end()) return std::nullopt;
  return it->second;
}

void SharedSet::count(const Folder& folder, bool in) {
  objects_ = in ? objects_ + folder.names.size() : objects_ - folder.names.size();
  bytes_ = in ? bytes_ + folder.bytes : bytes_ - folder.bytes;
}

void SharedSet::record(const Change& change) {
  changes_.push_back(change);
  if (changes_.size() > kChangesMax) changes_.pop_front();
}

std::vector<ChunkKey> SharedSet::keys_of(NamespaceId ns, size_t limit) const {
  std::vector<ChunkKey> keys;
  const auto it = namespaces_.find(static_cast<uint32_t>(ns));
  if (it == namespaces_.end()) return keys;
  for (const auto& [number, folder] : it->second.folders) {
    for (const auto& [key, generation] : folder.names) {
      if (keys.size() == limit) return keys;
      keys.push_back(key);
    }
  }
  return keys;
}

bool SharedSet::add(NamespaceId ns, const ChunkKey& key, SharedGeneration generation) {
  const auto names = namespaces_.find(static_cast<uint32_t>(ns));
  if (names == namespaces_.end()) return false;
  if (objects_ >= objects_max_ && !find(ns, key)) return false;
  Folder& folder = names->second.folders[shared_folder_of(key)];
  count(folder, false);
  folder.add(key, generation);
  count(folder, true);
  record({ns, key, generation, true});
  return true;
}

void SharedSet::remove(NamespaceId ns, const ChunkKey& key, SharedGeneration generation) {
  const auto names = namespaces_.find(static_cast<uint32_t>(ns));
  if (names == namespaces_.end()) return;
  const auto folder = names->second.folders.find(shared_folder_of(key));
  if (folder != names->second.folders.end()) {
    count(folder->second, false);
    folder->second.remove(key, generation);
    count(folder->second, true);
  }
  record({ns, key, generation, false});
}

bool SharedSet::replace(NamespaceId ns, uint32_t number, Folder listed) {
  const auto names = namespaces_.find(static_cast<uint32_t>(ns));
  if (names == namespaces_.end()) return true;
  for (const Change& change : changes_) {
    if (change.ns != ns || shared_folder_of(change.key) != number) continue;
    if (change.added) {
      listed.add(change.key, change.generation);
    } else {
      listed.remove(change.key, change.generation);
    }
  }
  Folder& folder = names->second.folders[number];
  if (objects_ - folder.names.size() + listed.names.size() > objects_max_) return false;
  count(folder, false);
  folder = std::move(listed);
  count(folder, true);
  return true;
}

void SharedSet::keep_only(NamespaceId ns, const std::vector<uint32_t>& folders) {
  const auto names = namespaces_.find(static_cast<uint32_t>(ns));
  if (names == namespaces_.end()) return;
  for (auto it = names->second.folders.begin(); it != names->second.folders.end();) {
    const bool ours = std::any_of(changes_.begin(), changes_.end(), [&](const Change& change) {
      return change.ns == ns && change.added && shared_folder_of(change.key) == it->first;
    });
    if (ours || std::binary_search(folders.begin(), folders.end(), it->first)) {
      ++it;
      continue;
    }
    count(it->second, false);
    it = names->second.folders.erase(it);
  }
}
}  // namespace terrace
