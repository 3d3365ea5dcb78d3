#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tools/trace/trace_format.h"

namespace terrace {
namespace {
constexpr double kSecondsMax = 1e9;
constexpr std::array<std::string_view, 4> kQwenTypes = {"text", "search", "image", "file"};

/// Collects the fields of one request as they pass by; builds no tree, so that memory stays bounded
/// by the ids that a request may have.
class RequestHandler final : public nlohmann::json_sax<nlohmann::json> {
 public:
  RequestHandler(TraceFormat format, TraceRequest* request, ChatLink* link)
      : format_(format), out_(request), link_(link) {}

  bool null() override { return value_seen("null"); }
  bool boolean(bool) override { return value_seen("a boolean"); }
  bool number_integer(int64_t value) override { return negative(value); }
  bool number_unsigned(uint64_t value) override { return number(value); }
  bool number_float(double value, const std::string&) override { return real(value); }
  bool binary(binary_t&) override { return value_seen("binary"); }
  bool string(std::string& value) override {
    if (depth_ == 1 && field_ == "type") {
      out_->category = static_cast<uint32_t>(kQwenTypes.size());
      for (uint32_t i = 0; i < kQwenTypes.size(); ++i) {
        if (kQwenTypes[i] == value) out_->category = i;
      }
      return true;
    }
    return value_seen("a string");
  }
  bool start_object(std::size_t) override {
    if (in_ids_) return wrong("want an array of integers");
    if (depth_ == 0) object_seen_ = true;
    if (depth_ == 1 && known()) return wrong("an object");
    return ++depth_ <= kDepthMax || wrong("nested too deep");
  }
  bool end_object() override { return --depth_, true; }
  bool start_array(std::size_t) override {
    if (in_ids_) return wrong("want an array of integers");
    in_ids_ = depth_ == 1 && field_ == "hash_ids";
    if (in_ids_) ids_seen_ = true;
    if (depth_ == 1 && !in_ids_ && known()) return wrong("an array");
    return ++depth_ <= kDepthMax || wrong("nested too deep");
  }
  bool end_array() override {
    if (depth_ == 2) in_ids_ = false;
    return --depth_, true;
  }
  bool key(std::string& name) override {
    if (depth_ == 1) field_ = name;
    return true;
  }
  bool parse_error(std::size_t at, const std::string&, const nlohmann::json::exception&) override {
    problem_ = "not JSON from byte " + std::to_string(at);
    return false;
  }

  Status finish(bool parsed) {
    if (!parsed && problem_.empty()) problem_ = "not JSON";
    if (problem_.empty() && !object_seen_) problem_ = "want an object";
    if (problem_.empty() && !time_seen_) problem_ = "timestamp is missing";
    if (problem_.empty() && !ids_seen_) problem_ = "hash_ids is missing";
    if (problem_.empty() && format_ == TraceFormat::qwen_jsonl && link_->chat < 0) {
      problem_ = "chat_id is missing";
    }
    if (!problem_.empty()) return error(StatusCode::kInvalidArgument, problem_);
    return ok_status();
  }

 private:
  static constexpr int kDepthMax = 32;

  bool known() const {
    return field_ == "timestamp" || field_ == "input_length" || field_ == "output_length" ||
           field_ == "hash_ids" ||
           (format_ == TraceFormat::qwen_jsonl &&
            (field_ == "chat_id" || field_ == "parent_chat_id" || field_ == "turn"));
  }
  bool wrong(const std::string& what) {
    problem_ = field_.substr(0, 40) + ": " + what;
    return false;
  }
  /// A value of a kind that no field of ours has.
  bool value_seen(const char* what) {
    if (in_ids_ || (depth_ == 1 && known())) return wrong(std::string("is ") + what);
    return true;
  }
  bool negative(int64_t value) {
    if (depth_ == 1 && format_ == TraceFormat::qwen_jsonl && value == -1 &&
        (field_ == "parent_chat_id" || field_ == "turn")) {
      return true;
    }
    return value_seen("negative");
  }
  bool real(double value) {
    if (depth_ != 1 || field_ != "timestamp") return value_seen("not an integer");
    const double time_s = format_ == TraceFormat::mooncake_jsonl ? value / 1e3 : value;
    if (!(time_s >= 0 && time_s <= kSecondsMax)) return wrong("want 0 to 1e9 seconds");
    out_->time = Nanos(std::llround(time_s * 1e9));
    time_seen_ = true;
    return true;
  }
  bool number(uint64_t value) {
    if (in_ids_) {
      if (out_->block_ids.size() >= kTraceIdsPerRequestMax) {
        return wrong("a request has at most " + std::to_string(kTraceIdsPerRequestMax) + " blocks");
      }
      out_->block_ids.push_back(value);
      return true;
    }
    if (depth_ != 1) return true;
    if (field_ == "timestamp") return real(static_cast<double>(value));
    if (field_ == "hash_ids") return wrong("want an array of integers");
    if (field_ == "input_length") out_->input_tokens = value;
    if (field_ == "output_length") out_->output_tokens = value;
    return format_ != TraceFormat::qwen_jsonl || chat_number(value);
  }
  bool chat_number(uint64_t value) {
    if (!known()) return true;
    if (value > INT64_MAX) return wrong("want an i64");
    if (field_ == "chat_id") link_->chat = static_cast<int64_t>(value);
    if (field_ == "parent_chat_id") link_->parent = static_cast<int64_t>(value);
    if (field_ == "turn") out_->turn = static_cast<int64_t>(value);
    return true;
  }

  const TraceFormat format_;
  TraceRequest* const out_;
  ChatLink* const link_;
  std::string field_;
  std::string problem_;
  int depth_ = 0;
  bool in_ids_ = false;
  bool object_seen_ = false;
  bool time_seen_ = false;
  bool ids_seen_ = false;
};
}  // namespace

Status parse_json_line(std::string_view line, TraceFormat format, TraceRequest* request,
                       ChatLink* link) {
  std::vector<uint64_t> ids = std::move(request->block_ids);
  ids.clear();
  *request = TraceRequest{};
  request->block_ids = std::move(ids);  // keeps its capacity
  *link = ChatLink{};
  RequestHandler handler(format, request, link);
  const bool parsed = nlohmann::json::sax_parse(line.begin(), line.end(), &handler);
  return handler.finish(parsed);
}
}  // namespace terrace
