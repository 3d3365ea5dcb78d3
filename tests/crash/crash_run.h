// tests/crash/crash_run.h - many short lives of one store, each ended by a power cut, or by a kill
// that its memory survives, with a model of what was promised. See crash_test.cc,
// warm_crash_test.cc.
#pragma once
#include <cstdint>
#include <string>

#include "base/limits.h"

namespace terrace::testing {

struct CrashOptions {
  uint64_t seed = 1;
  uint64_t lives = 100;
  uint64_t device_bytes = 48 * kMiB;
  bool evicting = false;  // the device is too small: acknowledged objects may be evicted
  bool flush = true;      // false: canary
  bool sync_rows = true;  // false: canary
  bool warm = false;      // the dram tier survives the cut; memory puts are promised too
  bool stale = false;     // canary: what survives is older than the kill
  uint32_t flips = 0;     // of bits in what survives, per life
  uint32_t devices = 1;   // of the nvme tier
  bool impaired = false;  // with several: in most lives one of them is missing, hangs, or fails
  bool trims = false;     // the devices forget free space all the while
  bool resizes = false;   // dram gets slabs and loses them all the while
  uint64_t too_much = 0;  // canary: bytes that they forget around each piece
};

struct CrashResult {
  std::string failure;  // the first broken promise; empty: none
  uint64_t cuts = 0;
  uint64_t cuts_under_way = 0;  // those that came while something ran
  uint64_t acknowledged = 0;    // puts, as nvme
  uint64_t wrong = 0;           // wrong bytes served as right
  uint64_t lost = 0;            // acknowledged as nvme, and gone
  uint64_t risen = 0;           // erase acknowledged, and back
  uint64_t evictions = 0;       // from nvme
  uint64_t slabs_replaced = 0;  // that went from one tenant to another
  uint64_t taken_back = 0;      // objects that survived in dram
  uint64_t trimmed_bytes = 0;   // that the devices were told to forget
  uint64_t resizes = 0;         // of dram, that were over
  uint64_t starts_cut = 0;      // kills before a start was over
  uint64_t impaired_lives = 0;  // with a device that was missing or failed in the middle
  uint64_t came_back = 0;       // objects read again after their device was away
  uint64_t failed_checks = 0;   // objects that survived and were found damaged
};

CrashResult run_lives(const CrashOptions& options);
}  // namespace terrace::testing
