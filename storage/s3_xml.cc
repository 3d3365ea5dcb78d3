#include "storage/s3_xml.h"

#include <expat.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

namespace terrace {
namespace {

constexpr size_t kDepthMax = 8;
constexpr size_t kElementsMax = 32768;  // a page has 1000 objects of about 8 elements
constexpr size_t kTextMax = 4096;
constexpr size_t kSaidMax = 200;

/// An element that ended: its path from the root, and its own text.
struct Element {
  std::string path;
  std::string text;
};

class Reader {
 public:
  /// All elements in the order in which they end; nullopt: not well-formed, or over a limit.
  static std::optional<std::vector<Element>> read(std::string_view xml) {
    if (xml.empty() || xml.size() > kS3XmlBytesMax) return std::nullopt;
    Reader reader;
    const std::unique_ptr<XML_ParserStruct, void (*)(XML_Parser)> parser(
        ::XML_ParserCreate(nullptr), ::XML_ParserFree);
    if (parser == nullptr) return std::nullopt;
    reader.parser_ = parser.get();
    ::XML_SetUserData(parser.get(), &reader);
    ::XML_SetElementHandler(parser.get(), on_begin, on_end);
    ::XML_SetCharacterDataHandler(parser.get(), on_text);
    // With a document type come entities, and with these a few bytes that expand without end.
    ::XML_SetStartDoctypeDeclHandler(parser.get(), on_doctype);
    const auto parsed =
        ::XML_Parse(parser.get(), xml.data(), static_cast<int>(xml.size()), XML_TRUE);
    if (parsed != XML_STATUS_OK) return std::nullopt;
    return std::move(reader.ended_);
  }

 private:
  void stop() { ::XML_StopParser(parser_, XML_FALSE); }
  static void on_begin(void* self, const XML_Char* name, const XML_Char**) {
    auto* const reader = static_cast<Reader*>(self);
    if (reader->open_.size() >= kDepthMax || reader->count_++ >= kElementsMax) {
      return reader->stop();
    }
    std::string path = reader->open_.empty() ? name : reader->open_.back().path + "/" + name;
    if (path.size() > kTextMax) return reader->stop();
    reader->open_.push_back({std::move(path), ""});
  }
  static void on_end(void* self, const XML_Char*) {
    auto* const reader = static_cast<Reader*>(self);
    if (reader->open_.empty()) return;  // events that come after stop()
    reader->ended_.push_back(std::move(reader->open_.back()));
    reader->open_.pop_back();
  }
  static void on_text(void* self, const XML_Char* text, int length) {
    auto* const reader = static_cast<Reader*>(self);
    if (reader->open_.empty()) return;
    std::string& into = reader->open_.back().text;
    if (into.size() + static_cast<size_t>(length) > kTextMax) return reader->stop();
    into.append(text, static_cast<size_t>(length));
  }
  static void on_doctype(void* self, const XML_Char*, const XML_Char*, const XML_Char*, int) {
    static_cast<Reader*>(self)->stop();
  }

  XML_Parser parser_ = nullptr;
  std::vector<Element> open_;
  std::vector<Element> ended_;
  size_t count_ = 0;
};

Status garbage(const std::string& what) {
  return error(StatusCode::kUnavailable, "s3: the server answered with " + what);
}

std::optional<uint64_t> number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// %XX decoded ('+' is a space in some servers' answers, which none of our names has).
std::optional<std::string> decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    unsigned byte = 0;
    if (i + 2 >= text.size()) return std::nullopt;
    const auto [end, failed] = std::from_chars(&text[i + 1], &text[i + 1] + 2, byte, 16);
    if (failed != std::errc() || end != &text[i + 1] + 2) return std::nullopt;
    out += static_cast<char>(byte);
    i += 2;
  }
  return out;
}

std::string printable(std::string text) {
  text.resize(std::min(text.size(), kSaidMax));
  for (char& c : text) {
    if (c < ' ' || c > '~' || c == '"') c = '?';
  }
  return text;
}
}  // namespace

int64_t parse_s3_time(std::string_view text) {
  // 2026-11-27T05:47:03.123Z, with any number of digits after the point, or without it.
  constexpr std::string_view kShape = "0000-00-00T00:00:00";
  if (text.size() < kShape.size() + 1 || text.back() != 'Z') return -1;
  for (size_t i = 0; i < kShape.size(); ++i) {
    const bool digit = text[i] >= '0' && text[i] <= '9';
    if (kShape[i] == '0' ? !digit : text[i] != kShape[i]) return -1;
  }
  const auto at = [&](size_t from, size_t length) {
    return static_cast<int64_t>(number(text.substr(from, length)).value_or(0));
  };
  const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(at(0, 4))),
                                         std::chrono::month(static_cast<unsigned>(at(5, 2))),
                                         std::chrono::day(static_cast<unsigned>(at(8, 2)))};
  if (!date.ok() || at(11, 2) > 23 || at(14, 2) > 59 || at(17, 2) > 60) return -1;
  const int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  int64_t ms = (((days * 24 + at(11, 2)) * 60 + at(14, 2)) * 60 + at(17, 2)) * 1000;
  std::string_view rest = text.substr(kShape.size(), text.size() - kShape.size() - 1);
  if (rest.empty()) return ms;
  if (rest[0] != '.' || rest.size() < 2 || rest.size() > 10 || !number(rest.substr(1))) return -1;
  for (size_t i = 1, unit = 100; i < rest.size() && unit > 0; ++i, unit /= 10) {
    ms += (rest[i] - '0') * static_cast<int64_t>(unit);
  }
  return ms;
}

StatusOr<S3Listing> parse_s3_listing(std::string_view xml) {
  const auto elements = Reader::read(xml);
  if (!elements || elements->empty() || elements->back().path != "ListBucketResult") {
    return garbage("no listing");
  }
  S3Listing out;
  S3Listing::Object object;
  bool sized = false;
  for (const Element& each : *elements) {
    const std::string_view path = std::string_view(each.path).substr(
        std::min(each.path.size(), std::string_view("ListBucketResult/").size()));
    if (path == "Contents/Key" || path == "CommonPrefixes/Prefix") {
      const auto key = decoded(each.text);
      if (!key) return garbage("a name that is not encoded well");
      if (path == "Contents/Key") {
        object.key = *key;
      } else {
        out.prefixes.push_back(*key);
      }
    } else if (path == "Contents/Size") {
      const auto bytes = number(each.text);
      sized = bytes.has_value();
      object.bytes = bytes.value_or(0);
    } else if (path == "Contents/LastModified") {
      object.modified_ms = parse_s3_time(each.text);
    } else if (path == "Contents") {
      if (object.key.empty() || !sized || object.modified_ms < 0) {
        return garbage("an entry without key, size or time");
      }
      out.objects.push_back(std::exchange(object, {}));
      sized = false;
    } else if (path == "IsTruncated") {
      out.truncated = each.text == "true";
    } else if (path == "NextContinuationToken") {
      out.next = each.text;
    }
  }
  if (out.truncated && out.next.empty()) return garbage("a part of a listing, without a token");
  return out;
}

S3Error parse_s3_error(std::string_view xml) {
  S3Error out;
  const auto elements = Reader::read(xml);
  if (!elements || elements->empty() || elements->back().path != "Error") return out;
  for (const Element& each : *elements) {
    if (each.path == "Error/Code") out.code = printable(each.text);
    if (each.path == "Error/Message") out.message = printable(each.text);
  }
  return out;
}

StatusOr<std::string> parse_s3_field(std::string_view xml, std::string_view root,
                                     std::string_view name) {
  const auto elements = Reader::read(xml);
  if (!elements || elements->empty()) return garbage("no " + std::string(root));
  if (elements->back().path != root) {
    const S3Error said = parse_s3_error(xml);
    return garbage(said.code.empty() ? "no " + std::string(root)
                                     : "error " + said.code + ": " + said.message);
  }
  const std::string path = std::string(root) + "/" + std::string(name);
  for (const Element& each : *elements) {
    if (each.path == path && !each.text.empty()) return each.text;
  }
  return garbage(std::string(root) + " without " + std::string(name));
}
}  // namespace terrace
