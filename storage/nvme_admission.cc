#include "storage/nvme_admission.h"

#include <algorithm>

#include "storage/core.h"

namespace terrace {

NvmeAdmission::NvmeAdmission(ChunkStore::Core& core)
    : core_(core), budget_(core.config.nvme_write_budget_gib_per_day * kGiB, core.loop->now()) {}

void NvmeAdmission::update() {
  if (!budget_.limited()) return;
  const uint64_t written = core_.metrics.write_bytes[static_cast<size_t>(Tier::nvme)].get();
  budget_.spend(written - seen_bytes_, core_.loop->now());
  core_.metrics.budget_spent_bytes.add(written - seen_bytes_);
  seen_bytes_ = written;
  const double left = std::max(0.0, budget_.left(core_.loop->now()));
  core_.metrics.budget_left_permille.set(static_cast<uint64_t>(left * 1000));
}

bool NvmeAdmission::admits(uint32_t id, double price) {
  if (!core_.worth(id, Tier::nvme, price)) return false;
  if (!budget_.limited()) return true;
  update();
  const Nanos now = core_.loop->now();
  const double value = core_.policy->value(id, now);
  typical_value_ += (value - typical_value_) * (typical_value_ == 0 ? 1 : kForget);
  const double left = budget_.left(now);
  const double raised = price_on_budget(price, typical_value_, left);
  if (left > 0 && (raised == price || value > raised)) return true;
  core_.metrics.budget_refused.add();
  return false;
}
}  // namespace terrace
