// tools/sim/recompute_cost.h - what computing KV again takes. Pure.
#pragma once

namespace terrace {

/// A dense decoder: a token costs its share of the weights, and attention to all tokens before it.
struct RecomputeCost {
  double prefill_tokens_per_s = 10'000;   // at the beginning of a prompt
  double position_scale_tokens = 32'768;  // where a token costs twice as much

  /// Of `tokens` tokens from `position` on.
  double seconds(double position, double tokens) const {
    const double middle = position + tokens / 2;
    return tokens * (1 + middle / position_scale_tokens) / prefill_tokens_per_s;
  }
};
}  // namespace terrace
