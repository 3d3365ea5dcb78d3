// server/node/namespace_table.h - the namespaces of a node: who owns each and what its bytes mean.
// Thread-safe: control threads open namespaces, the loop looks them up.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/chunk_key.h"
#include "base/identity.h"
#include "base/status.h"
#include "storage/metadata_store.h"

namespace terrace {

/// Immutable once made.
struct Namespace {
  NamespaceId id{};
  std::string tenant;
  std::string name;
  Fingerprint fingerprint;
  std::vector<SectionSpec> sections;  // of a full chunk; empty for raw namespaces
};

class NamespaceTable {
 public:
  /// `metadata` may be null: then namespaces last as long as the process.
  explicit NamespaceTable(MetadataStore* metadata) : metadata_(metadata) {}
  /// Reads what an earlier run opened. kDataLoss when a stored fingerprint does not parse.
  Status recover();
  /// Opens or creates; durable on return. kFailedPrecondition: it exists with another fingerprint
  /// (the message names the field and both values). kInvalidArgument, kResourceExhausted
  /// (kNamespacesMax).
  StatusOr<std::shared_ptr<const Namespace>> open(const std::string& tenant,
                                                  const std::string& name,
                                                  const Fingerprint& fingerprint, bool* created);
  /// Null when there is no such namespace.
  std::shared_ptr<const Namespace> find(NamespaceId id) const;
  std::vector<std::shared_ptr<const Namespace>> all() const;

 private:
  void insert(std::shared_ptr<const Namespace> ns);
  MetadataStore* const metadata_;
  mutable std::mutex mutex_;
  std::unordered_map<uint32_t, std::shared_ptr<const Namespace>> by_id_;       // guarded by mutex_
  std::unordered_map<std::string, std::shared_ptr<const Namespace>> by_name_;  // the same
  uint32_t next_ = 1;                                                          // the same
};
}  // namespace terrace
