#include <algorithm>
#include <array>
#include <charconv>
#include <cinttypes>
#include <cmath>
#include <cstdio>

#include "tools/trace/trace_format.h"

namespace terrace {
namespace {
constexpr size_t kColumns = 7;
constexpr double kSecondsMax = 1e9;  // 31 years, and far from where nanoseconds overflow
constexpr std::string_view kHeaderField = "block_tokens=";

Status bad(std::string_view field, std::string_view text, const std::string& want) {
  return error(StatusCode::kInvalidArgument,
               std::string(field) + " is \"" + std::string(text.substr(0, 40)) + "\"; " + want);
}

template <class T>
bool parse_all(std::string_view text, T* value) {
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return problem == std::errc() && end == text.data() + text.size();
}

Status parse_run(std::string_view run, std::vector<uint64_t>* ids) {
  const size_t dash = run.find('-');
  uint64_t first = 0;
  uint64_t last = 0;
  if (!parse_all(run.substr(0, dash), &first)) return bad("block_ids", run, "want N or N-M");
  last = first;
  if (dash != std::string_view::npos && !parse_all(run.substr(dash + 1), &last)) {
    return bad("block_ids", run, "want N or N-M");
  }
  if (last < first) return bad("block_ids", run, "the run goes backwards");
  if (last - first >= kTraceIdsPerRequestMax - ids->size()) {
    return bad("block_ids", run,
               "a request has at most " + std::to_string(kTraceIdsPerRequestMax) + " blocks");
  }
  for (uint64_t id = first; id < last; ++id) ids->push_back(id);
  ids->push_back(last);
  return ok_status();
}
}  // namespace

const char* name_of(TraceFormat format) {
  switch (format) {
    case TraceFormat::mooncake_jsonl:
      return "mooncake";
    case TraceFormat::qwen_jsonl:
      return "qwen";
    case TraceFormat::kvt:
      return "kvt";
  }
  return "unknown";
}

StatusOr<TraceFormat> detect_format(std::string_view line) {
  const size_t first = line.find_first_not_of(" \t");
  if (first != std::string_view::npos && line[first] == '{') {
    if (line.find("\"chat_id\"") != std::string_view::npos) return TraceFormat::qwen_jsonl;
    if (line.find("\"hash_ids\"") != std::string_view::npos &&
        line.find("\"timestamp\"") != std::string_view::npos) {
      return TraceFormat::mooncake_jsonl;
    }
  }
  if (first != std::string_view::npos && line[first] == '#') return TraceFormat::kvt;
  return error(StatusCode::kInvalidArgument,
               "not a trace: want Mooncake JSONL (timestamp, hash_ids), Qwen-Bailian JSONL "
               "(chat_id, hash_ids) or .kvt (first line \"# block_tokens=N\")");
}

StatusOr<uint32_t> parse_kvt_header(std::string_view line) {
  const size_t at = line.find(kHeaderField);
  if (at == std::string_view::npos) {
    return bad("the first line", line, "want \"# block_tokens=N\"");
  }
  const std::string_view rest = line.substr(at + kHeaderField.size());
  const std::string_view digits = rest.substr(0, rest.find_first_of(" \t"));
  uint32_t tokens = 0;
  if (!parse_all(digits, &tokens) || tokens == 0 || tokens > kTraceBlockTokensMax) {
    return bad("block_tokens", digits, "want 1 to " + std::to_string(kTraceBlockTokensMax));
  }
  return tokens;
}

Status parse_kvt_line(std::string_view line, TraceRequest* request) {
  std::array<std::string_view, kColumns> columns;
  for (size_t i = 0; i < kColumns; ++i) {
    const size_t tab = line.find('\t');
    if ((tab == std::string_view::npos) != (i + 1 == kColumns)) {
      return error(StatusCode::kInvalidArgument,
                   "want " + std::to_string(kColumns) + " columns separated by tabs");
    }
    columns[i] = line.substr(0, tab);
    if (tab != std::string_view::npos) line.remove_prefix(tab + 1);
  }
  double time_s = 0;
  if (!parse_all(columns[0], &time_s) || !(time_s >= 0 && time_s <= kSecondsMax)) {
    return bad("time_s", columns[0], "want seconds from 0 to 1e9");
  }
  request->time = Nanos(std::llround(time_s * 1e9));
  if (!parse_all(columns[1], &request->category)) return bad("category", columns[1], "want u32");
  if (!parse_all(columns[2], &request->turn)) return bad("turn", columns[2], "want i64");
  if (!parse_all(columns[3], &request->session)) return bad("session", columns[3], "want i64");
  if (!parse_all(columns[4], &request->input_tokens)) {
    return bad("input_tokens", columns[4], "want u64");
  }
  if (!parse_all(columns[5], &request->output_tokens)) {
    return bad("output_tokens", columns[5], "want u64");
  }
  request->block_ids.clear();
  std::string_view runs = columns[6];
  while (!runs.empty()) {
    const size_t comma = runs.find(',');
    TERRACE_RETURN_IF_ERROR(parse_run(runs.substr(0, comma), &request->block_ids));
    if (comma == std::string_view::npos) break;
    runs.remove_prefix(comma + 1);
    if (runs.empty()) return bad("block_ids", columns[6], "ends with a comma");
  }
  return ok_status();
}

std::string to_kvt_line(const TraceRequest& request) {
  const int64_t ms = std::chrono::duration_cast<milliseconds>(request.time).count();
  std::array<char, 160> head{};
  std::snprintf(head.data(), head.size(), "%" PRId64 ".%03" PRId64 "\t%u\t%" PRId64 "\t%" PRId64,
                ms / 1000, ms % 1000, request.category, request.turn, request.session);
  std::string line = head.data();
  line += '\t' + std::to_string(request.input_tokens) + '\t' +
          std::to_string(request.output_tokens) + '\t';
  const std::vector<uint64_t>& ids = request.block_ids;
  for (size_t i = 0; i < ids.size();) {
    size_t end = i + 1;
    while (end < ids.size() && ids[end - 1] != UINT64_MAX && ids[end] == ids[end - 1] + 1) ++end;
    if (i != 0) line += ',';
    line += std::to_string(ids[i]);
    if (end > i + 1) line += '-' + std::to_string(ids[end - 1]);
    i = end;
  }
  return line;
}

std::string to_mooncake_line(const TraceRequest& request) {
  const int64_t ms = std::chrono::duration_cast<milliseconds>(request.time).count();
  std::string line = "{\"timestamp\": " + std::to_string(ms) +
                     ", \"input_length\": " + std::to_string(request.input_tokens) +
                     ", \"output_length\": " + std::to_string(request.output_tokens) +
                     ", \"hash_ids\": [";
  for (size_t i = 0; i < request.block_ids.size(); ++i) {
    line += (i == 0 ? "" : ", ") + std::to_string(request.block_ids[i]);
  }
  return line + "]}";
}
}  // namespace terrace
