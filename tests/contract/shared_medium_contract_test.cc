// The contract of the shared tier's medium, for a directory.
#include <cstdlib>
#include <filesystem>

#include "storage/shared_directory.h"
#include "tests/contract/shared_medium_contract.h"

namespace terrace {
namespace {

class DirectoryPlace final : public Place {
 public:
  DirectoryPlace() {
    std::string pattern = std::filesystem::temp_directory_path() / "terrace-medium-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
  }
  ~DirectoryPlace() override { std::filesystem::remove_all(path_); }
  std::shared_ptr<SharedMedium> medium() override {
    return SharedDirectory::make(path_, std::make_unique<FileCalls>(), &clock_);
  }

 private:
  SystemClock clock_;
  std::string path_;
};

INSTANTIATE_TEST_SUITE_P(Directory, SharedMediumContract,
                         testing::Values([] { return std::make_unique<DirectoryPlace>(); }));
}  // namespace
}  // namespace terrace
