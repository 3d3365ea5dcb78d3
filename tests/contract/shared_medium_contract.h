// tests/contract/shared_medium_contract.h - what storage/shared_medium.h promises, for each
// implementation: instantiate the suite with what makes a place for its media.
#pragma once
#include <gtest/gtest.h>

#include <functional>
#include <memory>

#include "storage/shared_medium.h"

namespace terrace {

/// A place that several media share; removed at the end.
class Place {
 public:
  virtual ~Place() = default;
  virtual std::shared_ptr<SharedMedium> medium() = 0;
  /// How well ages are known.
  virtual Nanos ages_to() const { return Nanos(0); }
  /// Larger than what an open object keeps of its bytes.
  virtual size_t large() const { return size_t{3} << 20; }
};
/// Null: there is none here; the tests are skipped.
using MakePlace = std::function<std::unique_ptr<Place>()>;

class SharedMediumContract : public testing::TestWithParam<MakePlace> {
 protected:
  void SetUp() override;
  static Status publish(SharedMedium* medium, const std::string& name, std::string bytes);
  static StatusOr<std::string> read(SharedMedium* medium, const std::string& name);
  std::unique_ptr<Place> place_;
  std::shared_ptr<SharedMedium> one_;
  std::shared_ptr<SharedMedium> other_;
};
}  // namespace terrace
