// storage/policy/policy_kind.h - the policies there are, and their names.
#pragma once
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/status.h"
#include "storage/policy/placement_policy.h"

namespace terrace {

/// Who leaves a full tier first, and what gets into one.
enum class PolicyKind : uint8_t {
  value,  // what saves the least recomputing (storage/policy/value_policy.h)
  lru,    // the least recently used; everything gets in
};

const char* name_of(PolicyKind kind);
/// kInvalidArgument names those there are.
StatusOr<PolicyKind> policy_kind_of(std::string_view name);
std::unique_ptr<PlacementPolicy> make_policy(PolicyKind kind);
}  // namespace terrace
