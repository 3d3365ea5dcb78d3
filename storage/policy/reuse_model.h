// storage/policy/reuse_model.h - how soon an object will be used again, learned from how soon
// others were. Thread-confined.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace terrace {

class ReuseModel {
 public:
  virtual ~ReuseModel() = default;
  /// An object has been used for the `uses`-th time (from 1), `gap_s` after the time before; 0 for
  /// the first use.
  virtual void learn(uint32_t uses, double gap_s) = 0;
  /// Uses per second of further holding that an object, used `uses` times and last `age_s` ago,
  /// promises at best: the most over all times to hold it for, after which it would be let go.
  virtual double rate(uint32_t uses, double age_s) const = 0;
};

/// Objects in classes by how often they were used; in each a histogram of the gaps until the next
/// use. Not every object comes back, so a class has a share that does. The rate is the Gittins
/// index of holding (Gittins 1979): max over t of P(back within t) / E(time held until back, or t),
/// both given that it is not back yet. Unlike the hazard it looks ahead: an answer is read before
/// the next question, and the hazard rises until then.
class GapHistogram final : public ReuseModel {
 public:
  GapHistogram();
  void learn(uint32_t uses, double gap_s) override;
  double rate(uint32_t uses, double age_s) const override;
  /// Whose objects are alike, 0 to kClasses - 1; more uses, higher class.
  static size_t class_of(uint32_t uses);
  static constexpr size_t kClasses = 6;  // 1, 2, 3-4, 5-8, 9-16 uses, more

 private:
  static constexpr size_t kBins = 80;  // 4 per octave from 0.25 s: to 3 days
  struct Class {
    double objects = 0;                // that were used so often
    std::array<double, kBins> gaps{};  // of those that were used again
  };
  static size_t bin_of(double seconds);
  void rebuild() const;
  std::vector<double> cumulative(const Class& counts, const Class& pooled) const;

  std::array<Class, kClasses> classes_;
  Class pooled_;
  mutable std::array<std::array<double, kBins>, kClasses> rates_{};
  mutable uint32_t stale_ = ~uint32_t{0};  // lessons that rates_ does not know
};
}  // namespace terrace
