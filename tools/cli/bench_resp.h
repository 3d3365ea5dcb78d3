// tools/cli/bench_resp.h - reads Redis's replies (RESP2) straight into where their bytes belong.
// Pure: it owns no socket. Single-threaded.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"

namespace terrace {

/// Takes replies one after the other: a line ("+OK"), or a bulk string whose payload lands in the
/// destination without a copy, but for what arrived together with its header.
///
///   reader.start(destination);
///   while (!reader.done()) { n = recv(fd, reader.room()); status = reader.received(n); }
class RespReader {
 public:
  /// Begins the next reply. A bulk string must be exactly as long as `destination`; an empty one
  /// expects a line. What is left over from the reply before it may complete it at once.
  Status start(std::span<std::byte> destination);
  bool done() const { return state_ == State::done; }
  /// Where the next bytes go; never empty while the reply is not done.
  std::span<std::byte> room();
  /// `bytes` of room() were filled. kInvalidArgument: not RESP, an error reply, a missing key, or
  /// another length than expected; the reader is of no use after that.
  Status received(size_t bytes);
  /// The line of the reply, its type in front.
  const std::string& line() const { return line_; }

 private:
  enum class State { line, payload, trailer, done };
  // Small, so that little of a payload is copied; a header and "\r\n" fit.
  static constexpr size_t kScratchBytes = 64;
  static constexpr size_t kLineBytesMax = 256;

  Status take_scratch();
  Status end_of_line();

  State state_ = State::done;
  std::span<std::byte> destination_;
  size_t filled_ = 0;   // of the destination
  size_t trailer_ = 0;  // bytes of "\r\n" seen behind the payload
  std::string line_;
  std::array<std::byte, kScratchBytes> scratch_{};
  size_t scratch_begin_ = 0;
  size_t scratch_end_ = 0;
};
}  // namespace terrace
