// tools/trace/trace_format.h - one line of a trace as a request, and back. Pure functions.
//
//   kvt       time_s TAB category TAB turn TAB session TAB input TAB output TAB ids ("0-11,57")
//   mooncake  {"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [..]}
//   qwen      {"chat_id", "parent_chat_id", "timestamp": s, "input_length", "output_length",
//              "type", "turn", "hash_ids"}
#pragma once
#include <string>
#include <string_view>

#include "base/status.h"
#include "tools/trace/trace.h"

namespace terrace {

inline constexpr uint32_t kMooncakeBlockTokens = 512;
inline constexpr uint32_t kQwenBlockTokens = 16;

/// The format a first line (not blank) belongs to. kInvalidArgument names the known ones.
StatusOr<TraceFormat> detect_format(std::string_view line);
/// The N of "# block_tokens=N ...". kInvalidArgument when it has none, or one out of range.
StatusOr<uint32_t> parse_kvt_header(std::string_view line);

/// All of these: kInvalidArgument names the field and the limit. `request` is undefined then.
Status parse_kvt_line(std::string_view line, TraceRequest* request);
/// What a Qwen line says of its conversation; -1 where it says nothing.
struct ChatLink {
  int64_t chat = -1;
  int64_t parent = -1;
};
/// `format` is one of the two JSON ones. Unknown fields are passed over. `session` stays -1: a
/// reader that remembers chats can tell it from `link`.
Status parse_json_line(std::string_view line, TraceFormat format, TraceRequest* request,
                       ChatLink* link);

/// The line parse_kvt_line reads back to the same request (times to the millisecond).
std::string to_kvt_line(const TraceRequest& request);
/// The line parse_json_line(mooncake) reads back, but for the fields that format has not.
std::string to_mooncake_line(const TraceRequest& request);
}  // namespace terrace
