#include "server/node/namespace_table.h"

#include <algorithm>

#include "base/limits.h"
#include "storage/namespace_file.h"

namespace terrace {
namespace {

constexpr size_t kNameMax = 128;

std::string path_of(const std::string& tenant, const std::string& name) {
  return tenant + '\0' + name;
}

NamespaceRow row_of(const Namespace& ns) {
  return {ns.id, ns.tenant, ns.name, canonical_bytes(ns.fingerprint)};
}

std::shared_ptr<const Namespace> make(NamespaceId id, DomainId domain, std::string tenant,
                                      std::string name, Fingerprint fingerprint) {
  auto ns = std::make_shared<Namespace>();
  ns->id = id;
  ns->domain = domain;
  ns->tenant = std::move(tenant);
  ns->name = std::move(name);
  if (!fingerprint.raw()) {
    ns->sections = sections_of(fingerprint.geometry, fingerprint.geometry.tokens_per_chunk);
  }
  ns->shared_digest = shared_namespace_digest(ns->tenant, ns->name, digest_of(fingerprint));
  ns->fingerprint = std::move(fingerprint);
  return ns;
}
}  // namespace

DomainId NamespaceTable::domain_of(const std::string& tenant) {
  const std::lock_guard lock(mutex_);
  return tenant_locked(tenant).domain;
}

/// Numbers last as long as the process: nothing that is stored names one. Needs mutex_.
NamespaceTable::Tenant& NamespaceTable::tenant_locked(const std::string& tenant) {
  const auto number = static_cast<uint32_t>(tenants_.size() + 1);
  return tenants_.try_emplace(tenant, Tenant{.domain = DomainId{number}}).first->second;
}

/// Whether the tenant may make one more. Needs mutex_.
Status NamespaceTable::check_room_locked(const std::string& tenant) {
  const uint32_t has = tenant_locked(tenant).namespaces;
  if (has >= per_tenant_max_) {
    return error(
        StatusCode::kResourceExhausted,
        "tenant \"" + tenant + "\" has " + std::to_string(has) +
            " namespaces; at most namespaces-per-tenant-max = " + std::to_string(per_tenant_max_) +
            ": open one of them again (one per model, not one per run), or raise it");
  }
  if (by_id_.size() >= kNamespacesMax) {
    return error(StatusCode::kResourceExhausted,
                 "node holds " + std::to_string(by_id_.size()) +
                     " namespaces of all tenants, the limit: open one that is there");
  }
  return ok_status();
}

void NamespaceTable::insert(std::shared_ptr<const Namespace> ns) {
  next_ = std::max(next_, static_cast<uint32_t>(ns->id) + 1);
  ++tenant_locked(ns->tenant).namespaces;
  by_name_[path_of(ns->tenant, ns->name)] = ns;
  by_id_[static_cast<uint32_t>(ns->id)] = std::move(ns);
}

Status NamespaceTable::recover() {
  if (metadata_ == nullptr) return ok_status();
  TERRACE_ASSIGN_OR_RETURN(std::vector<NamespaceRow> rows, metadata_->namespaces());
  const auto copy = read_namespaces(directory_);
  // An index that was lost, or made anew, knows less than the copy: nobody else may get the
  // numbers.
  for (const NamespaceRow& row : copy.ok() ? *copy : std::vector<NamespaceRow>()) {
    const bool taken = std::any_of(rows.begin(), rows.end(), [&](const NamespaceRow& known) {
      return known.id == row.id || (known.tenant == row.tenant && known.name == row.name);
    });
    if (taken) continue;
    TERRACE_RETURN_IF_ERROR(metadata_->put_namespace(row));
    rows.push_back(row);
  }
  if (!rows.empty() && (!copy.ok() || *copy != rows)) {
    TERRACE_RETURN_IF_ERROR(write_namespaces(directory_, rows));
  }
  const std::lock_guard lock(mutex_);
  for (const NamespaceRow& row : rows) {
    StatusOr<Fingerprint> fingerprint = parse_fingerprint(row.fingerprint);
    if (!fingerprint.ok()) {
      return error(fingerprint.status().code(), "namespace " + row.tenant + "/" + row.name + ": " +
                                                    fingerprint.status().message());
    }
    insert(make(row.id, tenant_locked(row.tenant).domain, row.tenant, row.name,
                *std::move(fingerprint)));
  }
  return ok_status();
}

StatusOr<std::shared_ptr<const Namespace>> NamespaceTable::open(const std::string& tenant,
                                                                const std::string& name,
                                                                const Fingerprint& fingerprint,
                                                                bool* created) {
  if (name.empty() || name.size() > kNameMax || tenant.empty() || tenant.size() > kNameMax) {
    return error(StatusCode::kInvalidArgument, "namespace \"" + name + "\" of tenant \"" + tenant +
                                                   "\": names have 1 to " +
                                                   std::to_string(kNameMax) + " bytes");
  }
  TERRACE_RETURN_IF_ERROR(fingerprint.validate());
  const std::lock_guard making(making_);
  *created = false;
  if (const auto found = find(tenant, name); found != nullptr) {
    const std::string difference = first_difference(found->fingerprint, fingerprint);
    if (difference.empty()) return found;
    return error(StatusCode::kFailedPrecondition,
                 "namespace \"" + name + "\" holds KV of another model: " + difference +
                     "; use another namespace name");
  }
  NamespaceId id{};
  {
    const std::lock_guard lock(mutex_);
    TERRACE_RETURN_IF_ERROR(check_room_locked(tenant));
    id = NamespaceId{next_};
  }
  if (metadata_ != nullptr) {
    TERRACE_RETURN_IF_ERROR(make_durable({id, tenant, name, canonical_bytes(fingerprint)}));
  }
  *created = true;
  const std::lock_guard lock(mutex_);
  std::shared_ptr<const Namespace> ns =
      make(id, tenant_locked(tenant).domain, tenant, name, fingerprint);
  insert(ns);
  return ns;
}

/// The copy first: one that names a namespace too many does no harm, its number is given anew.
Status NamespaceTable::make_durable(const NamespaceRow& row) {
  std::vector<NamespaceRow> rows;
  for (const auto& ns : all()) rows.push_back(row_of(*ns));
  rows.push_back(row);
  TERRACE_RETURN_IF_ERROR(write_namespaces(directory_, rows));
  return metadata_->put_namespace(row);
}

void NamespaceTable::never_reuse(uint32_t highest) {
  const std::lock_guard lock(mutex_);
  next_ = std::max(next_, highest + 1);
}

std::shared_ptr<const Namespace> NamespaceTable::find(const std::string& tenant,
                                                      const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_name_.find(path_of(tenant, name));
  return found == by_name_.end() ? nullptr : found->second;
}

std::shared_ptr<const Namespace> NamespaceTable::find(NamespaceId id) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(static_cast<uint32_t>(id));
  return found == by_id_.end() ? nullptr : found->second;
}

std::vector<std::shared_ptr<const Namespace>> NamespaceTable::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<const Namespace>> out;
  for (const auto& [id, ns] : by_id_) out.push_back(ns);
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a->id < b->id; });
  return out;
}
}  // namespace terrace
