// tools/trace/trace_reader.h - reads a trace request by request, whatever its format and packing.
//
// Streaming: holds one line and one request. The format is told from the content, never from the
// file's name. Thread-confined.
#pragma once
#include <memory>
#include <string>
#include <unordered_map>

#include "base/status.h"
#include "tools/trace/byte_source.h"
#include "tools/trace/trace.h"

namespace terrace {

class TraceReader {
 public:
  /// Opens a file, `.zst` or plain. kNotFound, kInvalidArgument (no trace), kDataLoss (damaged
  /// zstd).
  static StatusOr<TraceReader> open(const std::string& path);
  /// `name` stands in messages.
  static StatusOr<TraceReader> read_from(std::unique_ptr<ByteSource> source, std::string name);

  /// The next request; false at the end. kInvalidArgument, kDataLoss: "file:line: what is wrong";
  /// the reader is then at its end.
  StatusOr<bool> next(TraceRequest* request);

  TraceFormat format() const { return format_; }
  /// Tokens per block id.
  uint32_t block_tokens() const { return block_tokens_; }

 private:
  TraceReader(LineReader lines, std::string name)
      : lines_(std::move(lines)), name_(std::move(name)) {}
  Status begin();
  StatusOr<bool> parse_next(TraceRequest* request);
  Status located(const Status& status) const;
  Status parse_json(std::string_view line, TraceRequest* request);

  LineReader lines_;
  std::string name_;
  TraceFormat format_ = TraceFormat::kvt;
  uint32_t block_tokens_ = 0;
  std::string first_line_;  // of JSON: looked at for the format, parsed by the first next()
  bool first_line_waits_ = false;
  bool ended_ = false;
  std::unordered_map<int64_t, int64_t> session_of_chat_;
};
}  // namespace terrace
