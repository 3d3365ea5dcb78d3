// tools/cli/trace_option.h - the trace that a command works on, as its options say.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "tools/trace/trace.h"

namespace terrace {

struct LoadedTrace {
  std::vector<TraceRequest> requests;
  uint32_t block_tokens = 0;
};

struct TraceOption {
  std::string name;  // a file, or "generated"
  uint64_t requests_max = 0;
  bool drop_partial_tail = false;

  /// --trace, --requests and --drop-partial-tail. The option outlives the parsing.
  void add_to(CLI::App* command);
  /// `seed`: of a generated one. Errors of the reader, with file and line.
  StatusOr<LoadedTrace> load(uint64_t seed) const;
};
}  // namespace terrace
