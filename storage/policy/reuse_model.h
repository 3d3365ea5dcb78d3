// storage/policy/reuse_model.h - how soon an object will be used again, learned from how soon
// others were. Thread-confined.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace terrace {

/// What is remembered of an object's uses.
struct UseHistory {
  static constexpr uint8_t kGapMax = 63;
  uint16_t uses = 1;  // 0: of no object
  /// Of the gap before the last use: 1 + its octave, from one second; 0: shorter, or used once.
  uint8_t last_gap = 0;

  void use_again(double gap_s);
  bool operator==(const UseHistory&) const = default;
};

class ReuseModel {
 public:
  virtual ~ReuseModel() = default;
  /// An object that nobody knew was used.
  virtual void first_use() = 0;
  /// An object with this history until now was used again, `gap_s` after the time before.
  virtual void used_again(const UseHistory& before, double gap_s) = 0;
  /// Uses per second of further holding that an object, used last `age_s` ago, promises at best:
  /// the most over all times to hold it for, after which it would be let go.
  virtual double rate(const UseHistory& history, double age_s) const = 0;
  /// All that was learned, at most UseMemory::kModelNumbersMax numbers; for restore().
  virtual std::vector<double> counts() const = 0;
  /// Instead of what was learned so far. False, and nothing happens: counts() of this model never
  /// returns such numbers.
  virtual bool restore(std::span<const double> counts) = 0;
};

/// Objects in classes by how often they were used and how long they rested the last time; in each a
/// histogram of the gaps until the next use. Not every object comes back, so a class has a share
/// that does. The rate is the Gittins index of holding (Gittins 1979): max over t of P(back within
/// t) / E(time held until back, or t), both given that it is not back yet. Unlike the hazard it
/// looks ahead: an answer is read before the next question, and the hazard rises until then.
class GapHistogram final : public ReuseModel {
 public:
  GapHistogram();
  void first_use() override;
  void used_again(const UseHistory& before, double gap_s) override;
  double rate(const UseHistory& history, double age_s) const override;
  std::vector<double> counts() const override;
  bool restore(std::span<const double> counts) override;
  /// Whose objects are alike, 0 to kClasses - 1.
  static size_t class_of(const UseHistory& history);
  static constexpr size_t kUseClasses = 6;  // 1, 2, 3-4, 5-8, 9-16 uses, more
  static constexpr size_t kGapClasses = 4;  // below 8 s, 64 s, 512 s, longer
  static constexpr size_t kClasses = kUseClasses * kGapClasses;

 private:
  static constexpr size_t kBins = 80;  // 4 per octave from 0.25 s: to 3 days
  struct Class {
    double objects = 0;                // that were used so often
    std::array<double, kBins> gaps{};  // of those that were used again
  };
  static size_t bin_of(double seconds);
  void count(size_t its_class);
  void rebuild() const;
  std::vector<double> cumulative(const Class& counts, const Class& pooled) const;

  std::array<Class, kClasses> classes_;
  Class pooled_;
  mutable std::array<std::array<double, kBins>, kClasses> rates_{};
  mutable uint32_t stale_ = ~uint32_t{0};  // lessons that rates_ does not know
};
}  // namespace terrace
