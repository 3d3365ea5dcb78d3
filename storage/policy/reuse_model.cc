#include "storage/policy/reuse_model.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace terrace {
namespace {

constexpr double kFirstEdge = 0.25;  // seconds
constexpr double kBinsPerOctave = 4;
constexpr uint32_t kRebuildAfter = 1024;  // lessons: less than a millisecond of work each time
constexpr double kForgetAt = 1 << 20;     // objects of a class; then all its counts are halved
constexpr double kCountMax =
    1e15;  // of gaps; a class may have had more of them than objects lately
constexpr double kPooledWeight = 20;  // objects' worth of what all classes have in common
// Before anything was learned: a third comes back, equally likely in every octave up to an hour.
constexpr double kPriorObjects = 20;
constexpr double kPriorShare = 1.0 / 3;
constexpr size_t kPriorBins = 56;
constexpr unsigned kOctavesPerGapClass = 3;

double edge(size_t bin) {
  return bin == 0 ? 0 : kFirstEdge * std::exp2(static_cast<double>(bin - 1) / kBinsPerOctave);
}
}  // namespace

void UseHistory::use_again(double gap_s) {
  if (uses < 0xFFFF) ++uses;
  last_gap =
      gap_s < 1 ? 0
                : static_cast<uint8_t>(std::min(std::floor(std::log2(gap_s)) + 1, double{kGapMax}));
}

GapHistogram::GapHistogram() {
  pooled_.objects = kPriorObjects;
  for (size_t bin = 0; bin < kPriorBins; ++bin) {
    pooled_.gaps[bin] = kPriorObjects * kPriorShare / kPriorBins;
  }
}

size_t GapHistogram::class_of(const UseHistory& history) {
  const auto octaves = static_cast<unsigned>(std::max<int>(history.uses - 1, 0));
  const size_t uses = std::min<size_t>(std::bit_width(octaves), kUseClasses - 1);
  const size_t gap = std::min<size_t>(history.last_gap / kOctavesPerGapClass, kGapClasses - 1);
  return gap * kUseClasses + uses;
}

size_t GapHistogram::bin_of(double seconds) {
  if (seconds < kFirstEdge) return 0;
  const double bin = 1 + std::floor(std::log2(seconds / kFirstEdge) * kBinsPerOctave);
  return static_cast<size_t>(std::min<double>(bin, kBins - 1));
}

void GapHistogram::first_use() {
  count(class_of({}));
}

void GapHistogram::used_again(const UseHistory& before, double gap_s) {
  classes_[class_of(before)].gaps[bin_of(gap_s)] += 1;
  pooled_.gaps[bin_of(gap_s)] += 1;
  UseHistory after = before;
  after.use_again(gap_s);
  count(class_of(after));
}

void GapHistogram::count(size_t its_class) {
  for (Class* each : {&classes_[its_class], &pooled_}) {
    each->objects += 1;
    if (each->objects < kForgetAt) continue;
    each->objects /= 2;
    for (double& gaps : each->gaps) gaps /= 2;
  }
  if (stale_ < kRebuildAfter) ++stale_;
}

std::vector<double> GapHistogram::counts() const {
  std::vector<double> all;
  const auto add = [&all](const Class& each) {
    all.push_back(each.objects);
    all.insert(all.end(), each.gaps.begin(), each.gaps.end());
  };
  for (const Class& each : classes_) add(each);
  add(pooled_);
  return all;
}

bool GapHistogram::restore(std::span<const double> counts) {
  if (counts.size() != (kClasses + 1) * (1 + kBins)) return false;
  const bool possible =
      std::all_of(counts.begin(), counts.end(), [](double c) { return c >= 0 && c <= kCountMax; });
  const double objects = counts[kClasses * (1 + kBins)];
  if (!possible || objects < 1) return false;
  const auto take = [&counts](Class* into) {
    into->objects = counts[0];
    std::copy_n(counts.begin() + 1, kBins, into->gaps.begin());
    counts = counts.subspan(1 + kBins);
  };
  for (Class& each : classes_) take(&each);
  take(&pooled_);
  stale_ = kRebuildAfter;
  return true;
}

/// P(back before the lower edge of bin b), for b from 0 to kBins.
std::vector<double> GapHistogram::cumulative(const Class& counts, const Class& pooled) const {
  std::vector<double> back(kBins + 1);
  const double objects = counts.objects + kPooledWeight;
  for (size_t bin = 0; bin < kBins; ++bin) {
    const double share = kPooledWeight * pooled.gaps[bin] / pooled.objects + counts.gaps[bin];
    back[bin + 1] = back[bin] + share / objects;
  }
  return back;
}

void GapHistogram::rebuild() const {
  stale_ = 0;
  for (size_t c = 0; c < kClasses; ++c) {
    const std::vector<double> back = cumulative(classes_[c], pooled_);
    for (size_t from = 0; from < kBins; ++from) {
      double held = 0;  // time, times the share that is not back
      double best = 0;
      for (size_t to = from; to + 1 < kBins; ++to) {
        const double away = std::max(0.0, 1 - (back[to] + back[to + 1]) / 2);
        held += away * (edge(to + 1) - edge(to));
        best = std::max(best, (back[to + 1] - back[from]) / std::max(held, 1e-9));
      }
      rates_[c][from] = best;
    }
  }
}

double GapHistogram::rate(const UseHistory& history, double age_s) const {
  if (stale_ >= kRebuildAfter) rebuild();
  // Among those that nothing is expected of, the older goes first.
  const double least = 1e-9 / (1 + age_s);
  return rates_[class_of(history)][bin_of(age_s)] + least;
}
}  // namespace terrace
