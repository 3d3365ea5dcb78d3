// tools/sim/saving_model.h - what a hit saves: the computing, less the loading. Pure.
#pragma once
#include <array>

#include "base/chunk_key.h"

namespace terrace {

/// A dense decoder: a token costs its share of the weights, and attention to all tokens before it.
struct SavingModel {
  double prefill_tokens_per_s = 10'000;   // at the beginning of a prompt
  double position_scale_tokens = 32'768;  // where a token costs twice as much
  double kv_bytes_per_token = 131'072;
  std::array<double, kTierCount> bytes_per_s = {50e9, 10e9, 2e9, 1e9};  // loaded, by tier

  /// Seconds to compute `tokens` tokens from `position` on.
  double recompute_s(double position, double tokens) const {
    const double middle = position + tokens / 2;
    return tokens * (1 + middle / position_scale_tokens) / prefill_tokens_per_s;
  }
  /// Seconds that loading them from `tier` saves instead; below 0 when computing is faster.
  double saved_s(double position, double tokens, Tier tier) const {
    const double load = tokens * kv_bytes_per_token / bytes_per_s[static_cast<size_t>(tier)];
    return recompute_s(position, tokens) - load;
  }
};
}  // namespace terrace
