#include "storage/policy/policy_kind.h"

#include <string>

#include "storage/policy/lru_policy.h"
#include "storage/policy/value_policy.h"

namespace terrace {

const char* name_of(PolicyKind kind) {
  return kind == PolicyKind::lru ? "lru" : "value";
}

StatusOr<PolicyKind> policy_kind_of(std::string_view name) {
  for (const PolicyKind kind : {PolicyKind::value, PolicyKind::lru}) {
    if (name == name_of(kind)) return kind;
  }
  return error(StatusCode::kInvalidArgument,
               "policy '" + std::string(name) + "' is none of lru, value");
}

std::unique_ptr<PlacementPolicy> make_policy(PolicyKind kind) {
  if (kind == PolicyKind::lru) return std::make_unique<LruPolicy>();
  return std::make_unique<ValuePolicy>();
}
}  // namespace terrace
