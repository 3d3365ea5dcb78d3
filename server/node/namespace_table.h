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
#include "storage/domain.h"
#include "storage/metadata_store.h"
#include "storage/shared_names.h"

namespace terrace {

/// Immutable once made.
struct Namespace {
  NamespaceId id{};
  DomainId domain{};  // the tenant's number: its namespaces share slabs of memory
  std::string tenant;
  std::string name;
  Fingerprint fingerprint;
  NamespaceDigest shared_digest;      // its name in a shared tier
  std::vector<SectionSpec> sections;  // of a full chunk; empty for raw namespaces
};

class NamespaceTable {
 public:
  /// `metadata` may be null: then namespaces last as long as the process. `directory`: where their
  /// copy for a lost index goes (storage/namespace_file.h); empty without `metadata`. A tenant
  /// makes at most `per_tenant_max`, so that none takes the places of all.
  NamespaceTable(MetadataStore* metadata, std::string directory, uint32_t per_tenant_max)
      : metadata_(metadata), directory_(std::move(directory)), per_tenant_max_(per_tenant_max) {}
  /// Reads what an earlier run opened, from the index and from the copy. kDataLoss when a stored
  /// fingerprint does not parse.
  Status recover();
  /// Numbers up to this one were given to somebody once: no new namespace gets them.
  void never_reuse(uint32_t highest);
  /// Opens or creates; durable on return. kFailedPrecondition: it exists with another fingerprint
  /// (the message names the field and both values). kInvalidArgument, kResourceExhausted (the
  /// tenant has as many as one may have, or the node kNamespacesMax).
  StatusOr<std::shared_ptr<const Namespace>> open(const std::string& tenant,
                                                  const std::string& name,
                                                  const Fingerprint& fingerprint, bool* created);
  /// The tenant's number, which all of its namespaces have, those to come as well.
  DomainId domain_of(const std::string& tenant);
  /// Null when there is no such namespace.
  std::shared_ptr<const Namespace> find(NamespaceId id) const;
  std::shared_ptr<const Namespace> find(const std::string& tenant, const std::string& name) const;
  std::vector<std::shared_ptr<const Namespace>> all() const;

 private:
  void insert(std::shared_ptr<const Namespace> ns);
  /// What all namespaces of a tenant have in common.
  struct Tenant {
    DomainId domain{};
    uint32_t namespaces = 0;
  };
  Tenant& tenant_locked(const std::string& tenant);
  Status check_room_locked(const std::string& tenant);
  Status make_durable(const NamespaceRow& row);
  MetadataStore* const metadata_;
  const std::string directory_;
  const uint32_t per_tenant_max_;
  std::mutex making_;         // one is made at a time; held while that is written
  mutable std::mutex mutex_;  // never held while anything is written: the loop takes it too
  std::unordered_map<uint32_t, std::shared_ptr<const Namespace>> by_id_;       // guarded by mutex_
  std::unordered_map<std::string, std::shared_ptr<const Namespace>> by_name_;  // the same
  std::unordered_map<std::string, Tenant> tenants_;                            // the same
  uint32_t next_ = 1;                                                          // the same
};
}  // namespace terrace
