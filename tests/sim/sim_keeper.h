// tests/sim/sim_keeper.h - a keeper of slabs for tests: what a process that is killed leaves behind
// is what its memory held at that moment, although the test goes on to take the dead store apart.
// Used from one thread.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/memory_file.h"
#include "storage/slab_keeper.h"

namespace terrace::testing {

class SimKeeper final : public SlabKeeper {
 public:
  Status keep(const std::string& name, const Fd& file) override {
    if (frozen_) return ok_status();
    if (refuse_more) return error(StatusCode::kResourceExhausted, "as the test wants it");
    const bool known = std::any_of(files.begin(), files.end(),
                                   [&](const KeptFile& each) { return each.name == name; });
    EXPECT_FALSE(known) << name << " is kept twice";
    files.push_back({name, Fd(::dup(file.get()))});
    return ok_status();
  }
  void forget(const std::string& name) override {
    if (frozen_) return;
    std::erase_if(files, [&](const KeptFile& each) { return each.name == name; });
  }

  /// SIGKILL, now: nothing that the store does from here on leaves a trace.
  void freeze() {
    if (std::exchange(frozen_, true)) return;
    for (KeptFile& each : files) each.file = copy_of(each.file);
  }
  /// What the next run finds; it goes on being kept.
  std::vector<KeptFile> take() {
    frozen_ = false;
    std::vector<KeptFile> out;
    for (const KeptFile& each : files) out.push_back({each.name, Fd(::dup(each.file.get()))});
    return out;
  }

  std::vector<KeptFile> files;
  bool refuse_more = false;

 private:
  static Fd copy_of(const Fd& from) {
    const off_t end = ::lseek(from.get(), 0, SEEK_END);
    StatusOr<Fd> to = make_memory_file("terrace-slab-copy", static_cast<uint64_t>(end));
    EXPECT_TRUE(to.ok()) << to.status().to_string();
    std::vector<char> run;
    for (off_t at = ::lseek(from.get(), 0, SEEK_DATA); at >= 0 && at < end;
         at = ::lseek(from.get(), at, SEEK_DATA)) {
      const off_t hole = ::lseek(from.get(), at, SEEK_HOLE);
      run.resize(static_cast<size_t>(hole - at));
      EXPECT_EQ(::pread(from.get(), run.data(), run.size(), at), hole - at);
      EXPECT_EQ(::pwrite(to->get(), run.data(), run.size(), at), hole - at);
      at = hole;
    }
    return *std::move(to);
  }
  bool frozen_ = false;
};
}  // namespace terrace::testing
