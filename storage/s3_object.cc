#include "storage/s3_object.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/limits.h"

namespace terrace {
namespace {

constexpr uint64_t kFirstBytes = 64 * kKiB;

Status nonsense(const std::string& what) {
  return error(StatusCode::kUnavailable, "s3: " + what);
}

std::string header(const HttpAnswer& answer, const std::string& name) {
  const auto it = answer.headers.find(name);
  return it == answer.headers.end() ? "" : it->second;
}

std::optional<uint64_t> number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// "bytes 0-9/100".
struct Range {
  uint64_t first = 0;
  uint64_t last = 0;
  uint64_t total = 0;
};
std::optional<Range> range_of(std::string_view text) {
  constexpr std::string_view kUnit = "bytes ";
  const size_t dash = text.find('-');
  const size_t slash = text.find('/');
  if (!text.starts_with(kUnit) || dash == std::string_view::npos ||
      slash == std::string_view::npos || slash < dash) {
    return std::nullopt;
  }
  const auto first = number(text.substr(kUnit.size(), dash - kUnit.size()));
  const auto last = number(text.substr(dash + 1, slash - dash - 1));
  const auto total = number(text.substr(slash + 1));
  if (!first || !last || !total || *first > *last || *last >= *total) return std::nullopt;
  return Range{*first, *last, *total};
}

class OpenObject final : public SharedBytes {
 public:
  OpenObject(std::shared_ptr<S3Client> client, std::string name,
             std::function<Nanos(uint64_t)> until)
      : client_(std::move(client)), name_(std::move(name)), until_(std::move(until)) {}

  /// What lies under the name now: its head, and the first of its bytes.
  Status look(S3Head* head, std::string* first) {
    S3Request request = get("bytes=0-" + std::to_string(kFirstBytes - 1));
    request.text_max = kFirstBytes;
    request.check = [&](const HttpAnswer& answer) -> Status {
      TERRACE_RETURN_IF_ERROR(parse_s3_head(answer, head));
      const uint64_t wanted = std::min(kFirstBytes, head->bytes);
      return answer.text.size() == wanted ? ok_status() : nonsense("a part of another length");
    };
    StatusOr<HttpAnswer> answer = client_->call(request, until_(kFirstBytes));
    if (answer.status().code() == StatusCode::kOutOfRange) {  // nothing has no first byte
      *head = {};
      first->clear();
      return ok_status();
    }
    if (!answer.ok()) return answer.status();
    *first = std::move(answer->text);
    return ok_status();
  }
  Status open() { return look(&head_, &first_); }

  uint64_t size() const override { return head_.bytes; }
  std::optional<Nanos> age() const override { return head_.age; }
  Status read(uint64_t offset, std::span<std::byte> into) override {
    const iovec piece{into.data(), into.size()};
    return read_pieces(offset, {&piece, 1});
  }

  Status read_pieces(uint64_t offset, std::span<const iovec> into) override {
    uint64_t bytes = 0;
    for (const iovec& piece : into) bytes += piece.iov_len;
    if (offset > head_.bytes || bytes > head_.bytes - offset) {
      return error(StatusCode::kOutOfRange, "s3 " + name_ + " ends at " + std::to_string(size()));
    }
    std::vector<iovec> rest;  // what is not among the first bytes
    for (iovec piece : into) {
      if (offset < first_.size()) {
        const size_t known = std::min<size_t>(piece.iov_len, first_.size() - offset);
        std::memcpy(piece.iov_base, first_.data() + offset, known);
        piece = {static_cast<std::byte*>(piece.iov_base) + known, piece.iov_len - known};
        offset += known;
        bytes -= known;
      }
      if (piece.iov_len > 0) rest.push_back(piece);
    }
    return bytes == 0 ? ok_status() : get_range(offset, bytes, rest);
  }

 private:
  S3Request get(const std::string& range) const {
    S3Request request;
    request.kind = S3Kind::get;
    request.key = name_;
    request.headers = {{"range", range}};
    return request;
  }

  Status get_range(uint64_t offset, uint64_t bytes, std::span<const iovec> into) {
    const Nanos until = until_(bytes);
    for (int tries = 0; tries < 2; ++tries) {
      const uint64_t last = offset + bytes - 1;
      S3Request request = get("bytes=" + std::to_string(offset) + "-" + std::to_string(last));
      request.headers.emplace_back("if-match", head_.etag);
      request.into = into;
      request.check = [&, this](const HttpAnswer& answer) -> Status {
        const auto range = range_of(header(answer, "content-range"));
        const bool exact = answer.status == 206 && range && range->first == offset &&
                           range->last == last && range->total == head_.bytes &&
                           answer.placed == bytes && header(answer, "etag") == head_.etag;
        return exact ? ok_status() : nonsense("a part that was not asked for");
      };
      const Status got = client_->call(request, until).status();
      if (got.code() == StatusCode::kOutOfRange) break;
      if (got.code() != StatusCode::kAborted) return got;
      // A touch gives some servers' objects another ETag.
      S3Head now;
      std::string first;
      TERRACE_RETURN_IF_ERROR(look(&now, &first));
      if (now.id.empty() || now.id != head_.id || now.bytes != head_.bytes || first != first_)
        break;
      head_.etag = now.etag;
    }
    return error(StatusCode::kNotFound, "s3 " + name_ + ": another object has its name by now");
  }

  const std::shared_ptr<S3Client> client_;
  const std::string name_;
  const std::function<Nanos(uint64_t)> until_;
  S3Head head_;
  std::string first_;
};
}  // namespace

int64_t s3_time_of(const HttpAnswer& answer, const std::string& name) {
  const std::string text = header(answer, name);
  return text.empty() ? -1 : parse_http_date(text);
}

Status s3_has_etag(const HttpAnswer& answer) {
  return header(answer, "etag").empty() ? nonsense("an answer without ETag") : ok_status();
}

Status parse_s3_head(const HttpAnswer& answer, S3Head* out) {
  TERRACE_RETURN_IF_ERROR(s3_has_etag(answer));
  out->etag = header(answer, "etag");
  out->id = header(answer, kS3IdHeader);
  if (answer.status == 206) {
    const auto range = range_of(header(answer, "content-range"));
    if (!range || range->first != 0) return nonsense("a part without its range");
    out->bytes = range->total;
  } else {
    const auto bytes = number(header(answer, "content-length"));
    if (!bytes) return nonsense("an answer without a length");
    out->bytes = *bytes;
  }
  const int64_t now = s3_time_of(answer, "date");
  const int64_t modified = s3_time_of(answer, "last-modified");
  if (now < 0 || modified < 0) return nonsense("an answer without Date and Last-Modified");
  out->age = seconds(std::max<int64_t>(0, now - modified));
  return ok_status();
}

StatusOr<std::unique_ptr<SharedBytes>> open_s3_object(std::shared_ptr<S3Client> client,
                                                      const std::string& name,
                                                      std::function<Nanos(uint64_t)> until) {
  auto object = std::make_unique<OpenObject>(std::move(client), name, std::move(until));
  TERRACE_RETURN_IF_ERROR(object->open());
  return StatusOr<std::unique_ptr<SharedBytes>>(std::move(object));
}
}  // namespace terrace
