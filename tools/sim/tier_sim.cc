#include "tools/sim/tier_sim.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "storage/index.h"

namespace terrace {

uint64_t TierSimCounts::hits() const {
  uint64_t sum = 0;
  for (const uint64_t each : prefix_hits) sum += each;
  return sum;
}

double TierSimCounts::prefix_percent(Tier tier) const {
  const auto hits = static_cast<double>(prefix_hits[static_cast<size_t>(tier)]);
  return references == 0 ? 0 : 100 * hits / static_cast<double>(references);
}

class TierSim::Core {
 public:
  Core(std::unique_ptr<PlacementPolicy> policy, const TierSimOptions& options)
      : policy_(std::move(policy)), options_(options) {}
  void request(const TraceRequest& request);

  TierSimCounts counts;

 private:
  struct Block {
    bool dram = false;
    bool nvme = false;
    uint32_t nvme_hits = 0;
    uint64_t pinned_by = 0;  // the number of a request
  };
  static constexpr uint32_t kList = 0;
  void look_up(const TraceRequest& request, const std::vector<uint32_t>& ids);
  double tokens_of(const TraceRequest& request, size_t place) const;
  double position_of(size_t place) const;
  uint32_t id_of(uint64_t block);
  void store(uint32_t id, const TraceRequest& request, size_t place);
  void use(uint32_t id);
  bool full(Tier tier) const;
  bool worth_it(uint32_t id, Tier tier) const;
  void enter(Tier tier, uint32_t id);
  /// False: all of the tier is in use.
  bool make_room(Tier tier);
  uint32_t victim(Tier tier) const;
  void drop(Tier tier, uint32_t id);

  const std::unique_ptr<PlacementPolicy> policy_;
  const TierSimOptions options_;
  Nanos now_{0};
  std::unordered_map<uint64_t, uint32_t> ids_;
  std::vector<Block> blocks_;
};

uint32_t TierSim::Core::id_of(uint64_t block) {
  const auto [it, is_new] = ids_.try_emplace(block, static_cast<uint32_t>(blocks_.size()));
  if (is_new) blocks_.emplace_back();
  return it->second;
}

/// Of the request's block at `place`: the last one may be partial.
double TierSim::Core::tokens_of(const TraceRequest& request, size_t place) const {
  const uint64_t begin = place * options_.block_tokens;
  const uint64_t left = request.input_tokens - std::min(request.input_tokens, begin);
  return static_cast<double>(std::min<uint64_t>(options_.block_tokens, left));
}

double TierSim::Core::position_of(size_t place) const {
  return static_cast<double>(place * options_.block_tokens);
}

void TierSim::Core::look_up(const TraceRequest& request, const std::vector<uint32_t>& ids) {
  bool prefix = true;
  for (size_t i = 0; i < ids.size(); ++i) {
    const Block& block = blocks_[ids[i]];
    const double tokens = tokens_of(request, i);
    counts.recompute_s += options_.saving.recompute_s(position_of(i), tokens);
    const bool there = block.dram || block.nvme;
    if (there) ++counts.block_hits;
    prefix = prefix && there;
    if (!prefix) continue;
    const Tier tier = block.dram ? Tier::dram : Tier::nvme;
    ++counts.prefix_hits[static_cast<size_t>(tier)];
    counts.saved_s += options_.saving.saved_s(position_of(i), tokens, tier);
  }
}

void TierSim::Core::request(const TraceRequest& request) {
  now_ = std::max(now_, request.time);
  ++counts.requests;
  counts.references += request.block_ids.size();
  std::vector<uint32_t> ids;
  for (const uint64_t block : request.block_ids) ids.push_back(id_of(block));
  counts.unique = blocks_.size();
  look_up(request, ids);
  ids.resize(std::min<size_t>(ids.size(), options_.dram_blocks));
  for (const uint32_t id : ids) blocks_[id].pinned_by = counts.requests;
  for (size_t i = ids.size(); i > 0; --i) {
    const uint32_t id = ids[i - 1];
    if (blocks_[id].dram || blocks_[id].nvme) {
      use(id);
    } else {
      store(id, request, i - 1);
    }
  }
  for (size_t i = 1; i < ids.size(); ++i) {
    const auto there = [this](uint32_t id) { return blocks_[id].dram || blocks_[id].nvme; };
    if (ids[i] != ids[i - 1] && there(ids[i]) && there(ids[i - 1])) {
      policy_->follows(ids[i], ids[i - 1]);
    }
  }
  counts.policy_bytes = policy_->memory_bytes();
}

void TierSim::Core::store(uint32_t id, const TraceRequest& request, size_t place) {
  ObjectWorth worth;
  worth.name = uint64_t{id} * 0x9E3779B97F4A7C15;
  worth.bytes = static_cast<uint64_t>(options_.block_tokens * options_.saving.kv_bytes_per_token);
  worth.recompute_s = options_.saving.recompute_s(position_of(place), tokens_of(request, place));
  policy_->known(id, worth, now_);
  if (full(Tier::dram) && !make_room(Tier::dram)) return policy_->forgotten(id);
  enter(Tier::dram, id);
  if (options_.nvme_blocks > 0 && worth_it(id, Tier::nvme)) enter(Tier::nvme, id);
}

void TierSim::Core::use(uint32_t id) {
  policy_->used(id, now_);
  Block& block = blocks_[id];
  if (block.dram || ++block.nvme_hits < options_.promote_hits) return;
  if (!worth_it(id, Tier::dram)) return;
  enter(Tier::dram, id);
  if (block.dram) ++counts.promotions;
}

bool TierSim::Core::full(Tier tier) const {
  const uint64_t capacity = tier == Tier::dram ? options_.dram_blocks : options_.nvme_blocks;
  return policy_->size(tier, kList) >= capacity;
}

bool TierSim::Core::worth_it(uint32_t id, Tier tier) const {
  if (!full(tier)) return true;
  const uint32_t other = victim(tier);
  return other != kNoEntry && policy_->worth(id, tier, policy_->value(other, now_), now_);
}

uint32_t TierSim::Core::victim(Tier tier) const {
  uint32_t found = kNoEntry;
  policy_->walk(tier, kList, now_, [&](uint32_t id) {
    if (blocks_[id].pinned_by == counts.requests) return PlacementPolicy::Visit::passed;
    found = id;
    return PlacementPolicy::Visit::stop;
  });
  return found;
}

bool TierSim::Core::make_room(Tier tier) {
  const uint32_t id = victim(tier);
  if (id == kNoEntry) return false;
  drop(tier, id);
  return true;
}

void TierSim::Core::enter(Tier tier, uint32_t id) {
  if (full(tier) && !make_room(tier)) return;
  policy_->entered(tier, kList, id);
  (tier == Tier::dram ? blocks_[id].dram : blocks_[id].nvme) = true;
  if (tier == Tier::dram) blocks_[id].nvme_hits = 0;
  ++counts.writes[static_cast<size_t>(tier)];
}

void TierSim::Core::drop(Tier tier, uint32_t id) {
  Block& block = blocks_[id];
  if (tier == Tier::dram) {
    policy_->left(Tier::dram, id);
    block.dram = false;
    if (block.nvme) return;
    if (options_.nvme_blocks > 0 && worth_it(id, Tier::nvme)) enter(Tier::nvme, id);
    if (block.nvme) return;
  } else {
    policy_->left(Tier::dram, id);
    policy_->left(Tier::nvme, id);
    block = {};
  }
  policy_->forgotten(id);
}

TierSim::TierSim(PolicyKind policy, const TierSimOptions& options)
    : core_(std::make_unique<Core>(make_policy(policy), options)) {}
TierSim::~TierSim() = default;

void TierSim::run(std::span<const TraceRequest> requests) {
  for (const TraceRequest& request : requests) core_->request(request);
}

const TierSimCounts& TierSim::counts() const {
  return core_->counts;
}

uint64_t unique_blocks(std::span<const TraceRequest> requests) {
  std::unordered_set<uint64_t> seen;
  for (const TraceRequest& request : requests) {
    seen.insert(request.block_ids.begin(), request.block_ids.end());
  }
  return seen.size();
}
}  // namespace terrace
