#include "client/join.h"

#include <algorithm>

#include "base/check.h"

namespace terrace {
namespace {

/// Puts one part's answers where the caller's items are. A part without answers has none for any.
template <class T>
void scatter(std::vector<T>* from, const Share& share, size_t items, std::vector<T>* into) {
  if (from->empty()) return;
  TERRACE_CHECK(from->size() == share.size());
  into->resize(items);
  for (size_t k = 0; k < share.size(); ++k) (*into)[share[k]] = std::move((*from)[k]);
}
}  // namespace

Join::Join(Parts parts)
    : parts_(std::move(parts)),
      places_(parts_.items),
      states_(parts_.shares.size()),
      running_(parts_.shares.size()) {
  for (uint32_t part = 0; part < parts_.shares.size(); ++part) {
    const Share& share = parts_.shares[part];
    for (uint32_t k = 0; k < share.size(); ++k) places_.at(share[k]) = {part, k};
  }
}

std::optional<uint32_t> Join::advance() {
  uint32_t ready = ~uint32_t{0};
  for (const Part& part : states_) {
    if (!part.ended) ready = std::min(ready, part.layers);
  }
  // With the last part the completion takes over.
  if (running_ == 0 || ready <= told_) return std::nullopt;
  told_ = ready;
  return ready;
}

std::optional<uint32_t> Join::layers(uint32_t part, uint32_t ready) {
  states_[part].layers = ready;
  return advance();
}

void Join::merge_status(const Share& share, const std::string& node, const Status& status) {
  const StatusCode have = whole_.status.code();
  if (status.ok() || (have != StatusCode::kOk && have != StatusCode::kNotFound)) return;
  // A miss is an answer like any other: what went wrong is more worth saying.
  if (have == StatusCode::kNotFound && status.code() == StatusCode::kNotFound) return;
  whole_.status =
      error(status.code(), "node " + node + ", with " + std::to_string(share.size()) + " of the " +
                               std::to_string(parts_.items) + " keys: " + status.message());
}

void Join::ended(uint32_t part, const std::string& node, Completion completion) {
  TERRACE_CHECK(!states_[part].ended);
  states_[part].ended = true;
  --running_;
  const Share& share = parts_.shares[part];
  lost_.clear();
  for (size_t k = 0; k < completion.key_codes.size(); ++k) {
    if (parts_.streams && completion.key_codes[k] != StatusCode::kOk) {
      lost_.push_back(static_cast<uint32_t>(share[k]));
    }
  }
  scatter(&completion.key_codes, share, parts_.items, &whole_.key_codes);
  scatter(&completion.keys, share, parts_.items, &whole_.keys);
  scatter(&completion.views, share, parts_.items, &whole_.views);
  merge_status(share, node, completion.status);
  whole_.bytes += completion.bytes;
  for (size_t t = 0; t < kTierCount; ++t) whole_.tier_bytes[t] += completion.tier_bytes[t];
  if (completion.lease != kNoLease) leases_.push_back(completion.lease);
}

Completion Join::take() {
  TERRACE_CHECK(done());
  if (parts_.conclude) parts_.conclude(&whole_);
  return std::move(whole_);
}
}  // namespace terrace
