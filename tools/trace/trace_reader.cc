#include "tools/trace/trace_reader.h"

#include "tools/trace/trace_format.h"

namespace terrace {
namespace {
constexpr size_t kChatsMax = size_t{1} << 22;  // past these a chat starts a session of its own

bool blank(std::string_view line) {
  return line.find_first_not_of(" \t") == std::string_view::npos;
}
}  // namespace

StatusOr<TraceReader> TraceReader::open(const std::string& path) {
  TERRACE_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> file, open_file_source(path));
  return read_from(std::move(file), path);
}

StatusOr<TraceReader> TraceReader::read_from(std::unique_ptr<ByteSource> source, std::string name) {
  TERRACE_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> plain, decompress(std::move(source)));
  TraceReader reader(LineReader(std::move(plain), kTraceLineBytesMax), std::move(name));
  if (Status begun = reader.begin(); !begun.ok()) return reader.located(begun);
  return reader;
}

Status TraceReader::located(const Status& status) const {
  return error(status.code(),
               name_ + ":" + std::to_string(lines_.line_number()) + ": " + status.message());
}

Status TraceReader::begin() {
  std::string_view line;
  do {
    TERRACE_ASSIGN_OR_RETURN(const bool more, lines_.next(&line));
    if (!more) return error(StatusCode::kInvalidArgument, "the trace is empty");
  } while (blank(line));
  TERRACE_ASSIGN_OR_RETURN(format_, detect_format(line));
  if (format_ == TraceFormat::kvt) {
    TERRACE_ASSIGN_OR_RETURN(block_tokens_, parse_kvt_header(line));
    return ok_status();
  }
  block_tokens_ = format_ == TraceFormat::qwen_jsonl ? kQwenBlockTokens : kMooncakeBlockTokens;
  first_line_ = line;
  first_line_waits_ = true;
  return ok_status();
}

StatusOr<bool> TraceReader::next(TraceRequest* request) {
  if (ended_) return false;
  StatusOr<bool> more = parse_next(request);
  ended_ = !more.ok() || !*more;
  if (!more.ok()) return located(more.status());
  return more;
}

/// A Qwen session is named by the chat it began with.
Status TraceReader::parse_json(std::string_view line, TraceRequest* request) {
  ChatLink link;
  TERRACE_RETURN_IF_ERROR(parse_json_line(line, format_, request, &link));
  if (format_ != TraceFormat::qwen_jsonl) return ok_status();
  const auto root = session_of_chat_.find(link.parent);
  request->session = root != session_of_chat_.end() ? root->second
                     : link.parent >= 0             ? link.parent
                                                    : link.chat;
  if (session_of_chat_.size() < kChatsMax) session_of_chat_[link.chat] = request->session;
  return ok_status();
}

StatusOr<bool> TraceReader::parse_next(TraceRequest* request) {
  std::string_view line;
  if (first_line_waits_) {
    first_line_waits_ = false;
    TERRACE_RETURN_IF_ERROR(parse_json(first_line_, request));
    first_line_ = {};
    return true;
  }
  do {
    TERRACE_ASSIGN_OR_RETURN(const bool more, lines_.next(&line));
    if (!more) return false;
  } while (blank(line) || (format_ == TraceFormat::kvt && line.front() == '#'));
  if (format_ == TraceFormat::kvt) {
    TERRACE_RETURN_IF_ERROR(parse_kvt_line(line, request));
  } else {
    TERRACE_RETURN_IF_ERROR(parse_json(line, request));
  }
  return true;
}
}  // namespace terrace
