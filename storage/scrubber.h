// storage/scrubber.h - reads everything again, slowly, so that rot is found before it is needed.
// Thread-confined.
#pragma once
#include <cstdint>
#include <memory>

#include "base/loop.h"
#include "storage/chunk_store.h"
#include "storage/tier_pass.h"

namespace terrace {

struct IndexEntry;

class Scrubber {
 public:
  explicit Scrubber(ChunkStore::Core& core);
  ~Scrubber();
  /// Arms the timer, when the configuration asks for scrubbing.
  void start();
  /// No new step begins.
  void stop();
  bool idle() const { return !busy_; }
  /// One pass over a tier, instead of one per period; it ends with pass->over. Of a scrubber that
  /// was not started, one after the other.
  void run(std::shared_ptr<VerifyPass> pass);
  bool running() const { return pass_ != nullptr; }

 private:
  struct Work;  // the object that is being checked
  void tick();
  bool next_object();
  void end_pass();
  Status check_piece();
  void check_dram_piece();
  void read_nvme_piece();
  void checked(const Status& result);
  bool wanted(const IndexEntry& entry) const;
  void not_checked(const Status& why);
  void bad(Tier tier);
  void end_object(bool checked);
  void arm(uint64_t bytes_done);

  ChunkStore::Core& core_;
  Timer timer_;
  bool stopped_ = true;
  bool busy_ = false;  // a device read runs
  uint32_t cursor_ = 0;
  Nanos pass_began_{0};
  std::unique_ptr<Work> work_;
  std::shared_ptr<VerifyPass> pass_;  // null: passes of the period
};
}  // namespace terrace
