#include "tools/cli/bench_resp.h"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace terrace {
namespace {
Status bad(const std::string& what) {
  return error(StatusCode::kInvalidArgument, "redis reply: " + what);
}
}  // namespace

Status RespReader::start(std::span<std::byte> destination) {
  TERRACE_CHECK(state_ == State::done);
  state_ = State::line;
  destination_ = destination;
  filled_ = 0;
  trailer_ = 0;
  line_.clear();
  return take_scratch();
}

std::span<std::byte> RespReader::room() {
  if (state_ == State::payload) return destination_.subspan(filled_);
  // Everything in the scratch was taken, or the reply would be done.
  scratch_begin_ = 0;
  scratch_end_ = 0;
  return scratch_;
}

Status RespReader::received(size_t bytes) {
  if (state_ == State::payload) {
    filled_ += bytes;
    if (filled_ == destination_.size()) state_ = State::trailer;
    return ok_status();
  }
  scratch_end_ = bytes;
  return take_scratch();
}

Status RespReader::take_scratch() {
  while (scratch_begin_ < scratch_end_ && state_ != State::done) {
    if (state_ == State::payload) {
      const size_t bytes = std::min(scratch_end_ - scratch_begin_, destination_.size() - filled_);
      std::memcpy(destination_.data() + filled_, scratch_.data() + scratch_begin_, bytes);
      scratch_begin_ += bytes;
      filled_ += bytes;
      if (filled_ == destination_.size()) state_ = State::trailer;
      continue;
    }
    const char c = static_cast<char>(scratch_[scratch_begin_++]);
    if (state_ == State::trailer) {
      if (c != (trailer_ == 0 ? '\r' : '\n')) return bad("no line end behind a value");
      if (++trailer_ == 2) state_ = State::done;
      continue;
    }
    if (line_.size() >= kLineBytesMax) return bad("a line without end");
    line_.push_back(c);
    if (line_.ends_with("\r\n")) TERRACE_RETURN_IF_ERROR(end_of_line());
  }
  return ok_status();
}

Status RespReader::end_of_line() {
  line_.resize(line_.size() - 2);
  if (line_.empty() || line_.front() == '-') return bad("\"" + line_ + "\"");
  if (line_.front() != '$') {
    if (!destination_.empty()) return bad("want a value, got \"" + line_ + "\"");
    state_ = State::done;
    return ok_status();
  }
  uint64_t bytes = 0;
  const auto [end, problem] = std::from_chars(line_.data() + 1, line_.data() + line_.size(), bytes);
  if (problem != std::errc() || end != line_.data() + line_.size() || destination_.empty() ||
      bytes != destination_.size()) {
    return bad("\"" + line_ + "\"; want a value of " + std::to_string(destination_.size()) +
               " bytes");
  }
  state_ = State::payload;
  return ok_status();
}
}  // namespace terrace
