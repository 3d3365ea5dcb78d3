// tools/trace/byte_source.h - where a trace's bytes come from: a file, memory, or a zstd stream of
// either. Thread-confined.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace terrace {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Up to out.size() (> 0) bytes; 0 at the end. kDataLoss: a damaged stream; else the system's.
  virtual StatusOr<size_t> read(std::span<char> out) = 0;
};

/// kNotFound, kPermissionDenied; the message names the file.
StatusOr<std::unique_ptr<ByteSource>> open_file_source(const std::string& path);
/// Borrows `bytes`.
std::unique_ptr<ByteSource> make_memory_source(std::string_view bytes);
/// Looks at the first four bytes of `source`: a zstd frame is decompressed on the way (windows up
/// to 128 MiB), anything else passes through unchanged.
StatusOr<std::unique_ptr<ByteSource>> decompress(std::unique_ptr<ByteSource> source);

/// Cuts a source into lines of at most `line_bytes_max`.
class LineReader {
 public:
  LineReader(std::unique_ptr<ByteSource> source, size_t line_bytes_max)
      : source_(std::move(source)), line_bytes_max_(line_bytes_max) {}
  /// The next line without its end (LF or CRLF), valid until the next call; false at the end.
  /// kInvalidArgument: a line over the limit.
  StatusOr<bool> next(std::string_view* line);
  /// Of the line that next() gave last; 1 is the first.
  uint64_t line_number() const { return line_number_; }

 private:
  Status fill();
  std::unique_ptr<ByteSource> source_;
  const size_t line_bytes_max_;
  std::string buffer_;
  size_t begin_ = 0;     // of what was not given out yet
  size_t searched_ = 0;  // no line end before this
  uint64_t line_number_ = 0;
  bool ended_ = false;
};
}  // namespace terrace
