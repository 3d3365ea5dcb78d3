#include "storage/s3_medium.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <thread>
#include <utility>

#include "base/chunk_key.h"
#include "base/limits.h"
#include "base/prng.h"
#include "storage/s3_client.h"
#include "storage/s3_object.h"
#include "storage/s3_xml.h"
#include "storage/shared_calls.h"

namespace terrace {
namespace {

constexpr const char* kTemporaries = "tmp";
constexpr size_t kPageMax = 1000;     // S3 gives no more
constexpr size_t kEmptyPagesMax = 8;  // that some servers send in between
constexpr int kRaces = 3;
constexpr int kRacers = 4;

Status no_conditions(const std::string& what) {
  return error(StatusCode::kFailedPrecondition,
               "shared_s3: this server " + what +
                   ": without conditional puts a bucket cannot be a shared tier");
}

/// Names as SharedMedium has them; what else lies in the bucket is not ours.
bool is_name(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_';
  });
}

std::string random_name() {
  std::array<std::byte, 32> random{};
  secure_random(random);
  return ChunkKey{random}.hex().substr(0, 16);
}
}  // namespace

StatusOr<std::shared_ptr<SharedMedium>> open_s3_medium(const S3Options& options,
                                                       const Clock* clock) {
  TERRACE_ASSIGN_OR_RETURN(std::shared_ptr<S3Medium> medium, S3Medium::make(options, clock));
  return std::shared_ptr<SharedMedium>(std::move(medium));
}

S3Medium::S3Medium(const S3Options& options, std::unique_ptr<S3Client> client)
    : options_(options), client_(std::move(client)), self_(random_name()) {}

S3Medium::~S3Medium() = default;

StatusOr<std::shared_ptr<S3Medium>> S3Medium::make(const S3Options& options, const Clock* clock) {
  S3Client::Options of_client;
  of_client.config = options.config;
  of_client.patience = options.timeout / 2;
  TERRACE_ASSIGN_OR_RETURN(std::unique_ptr<S3Client> client, S3Client::make(of_client, clock));
  return std::shared_ptr<S3Medium>(new S3Medium(options, std::move(client)));
}

const S3Metrics* S3Medium::requests() const {
  return &client_->metrics();
}

/// Sooner than storage/shared_calls.h gives up on the call that this is a part of.
Nanos S3Medium::until(uint64_t bytes) const {
  const uint64_t extra_ms = bytes * 1000 / SharedCalls::kBytesPerSecondMin;
  return client_->now() + options_.timeout * 3 / 4 + milliseconds(static_cast<int64_t>(extra_ms));
}

std::string S3Medium::fresh_id() {
  return self_ + "." + std::to_string(next_.fetch_add(1));
}

Status S3Medium::put(const std::string& name, std::span<const iovec> pieces, Nanos until) {
  S3Request request;
  request.kind = S3Kind::put;
  request.method = "PUT";
  request.key = name;
  request.headers = {{kS3IdHeader, fresh_id()}};
  request.body = pieces;
  request.once_silent = true;
  request.check = s3_has_etag;
  return client_->call(request, until).status();
}

Status S3Medium::publish(const std::string& name, std::span<const iovec> pieces) {
  uint64_t bytes = 0;
  for (const iovec& piece : pieces) bytes += piece.iov_len;
  if (bytes <= options_.single_put_max) return put(name, pieces, until(bytes));
  return put_in_parts(name, pieces, bytes, until(bytes));
}

Status S3Medium::create_once(const std::string& name, std::string_view bytes, Nanos until) {
  std::string copy(bytes);
  const iovec piece{copy.data(), copy.size()};
  const std::string id = fresh_id();
  S3Request request;
  request.kind = S3Kind::put;
  request.method = "PUT";
  request.key = name;
  request.headers = {{"if-none-match", "*"}, {kS3IdHeader, id}};
  request.body = {&piece, 1};
  request.check = s3_has_etag;
  int attempts = 0;
  const Status made = client_->call(request, until, &attempts).status();
  if (made.code() != StatusCode::kAborted) return made;
  if (attempts > 1) {  // an attempt whose answer got lost may have been it
    const StatusOr<S3Head> there = head(name, until);
    if (there.ok() && there->id == id) return ok_status();
  }
  return error(StatusCode::kAlreadyExists, "s3 " + name + ": exists");
}

Status S3Medium::create(const std::string& name, std::string_view bytes) {
  if (!creates_once_) TERRACE_RETURN_IF_ERROR(check());
  return create_once(name, bytes, until(0));
}

StatusOr<S3Head> S3Medium::head(const std::string& name, Nanos until) {
  S3Request request;
  request.kind = S3Kind::head;
  request.method = "HEAD";
  request.key = name;
  S3Head out;
  request.check = [&out](const HttpAnswer& answer) { return parse_s3_head(answer, &out); };
  TERRACE_RETURN_IF_ERROR(client_->call(request, until).status());
  return out;
}

StatusOr<std::unique_ptr<SharedBytes>> S3Medium::open(const std::string& name) {
  return open_s3_object(client_, name, [this](uint64_t bytes) { return until(bytes); });
}

StatusOr<SharedMedium::Facts> S3Medium::facts(const std::string& name) {
  TERRACE_ASSIGN_OR_RETURN(const S3Head found, head(name, until(0)));
  return Facts{found.bytes, found.age};
}

Status S3Medium::copy(const std::string& from, const S3Head& head, const std::string& to, bool anew,
                      Nanos until) {
  S3Request request;
  request.kind = S3Kind::copy;
  request.method = "PUT";
  request.key = to;
  request.headers = {{"x-amz-copy-source", client_->source_of(from)},
                     {"x-amz-copy-source-if-match", head.etag}};
  request.works_silently = true;
  if (anew) {
    request.headers.emplace_back("x-amz-metadata-directive", "REPLACE");
    if (!head.id.empty()) request.headers.emplace_back(kS3IdHeader, head.id);
  }
  // 200 comes at once, and how it went in the body.
  request.check = [](const HttpAnswer& answer) {
    return parse_s3_field(answer.text, "CopyObjectResult", "ETag").status();
  };
  return client_->call(request, until).status();
}

Status S3Medium::touch(const std::string& name) {
  Status copied;
  for (int tries = 0; tries < 2; ++tries) {  // another one may have touched it in between
    const Nanos end = until(0);
    TERRACE_ASSIGN_OR_RETURN(const S3Head found, head(name, end));
    copied = copy(name, found, name, true, std::max(end, until(found.bytes)));
    if (copied.code() != StatusCode::kAborted) return copied;
  }
  return error(StatusCode::kUnavailable, "s3 touch " + name + ": it changes all the time");
}

Status S3Medium::move(const std::string& from, const std::string& to) {
  const Nanos end = until(0);
  TERRACE_ASSIGN_OR_RETURN(const S3Head found, head(from, end));
  const Nanos late = std::max(end, until(found.bytes));
  const Status copied = copy(from, found, to, false, late);
  if (copied.code() == StatusCode::kAborted) {
    return error(StatusCode::kUnavailable, "s3 move " + from + ": it changed meanwhile");
  }
  TERRACE_RETURN_IF_ERROR(copied);
  return erase(from, late);
}

Status S3Medium::erase(const std::string& name, Nanos until) {
  S3Request request;
  request.kind = S3Kind::remove;
  request.method = "DELETE";
  request.key = name;
  return client_->call(request, until).status();
}

Status S3Medium::remove(const std::string& name) {
  const Nanos end = until(0);  // S3 says OK also when there was none
  TERRACE_RETURN_IF_ERROR(head(name, end).status());
  return erase(name, end);
}

StatusOr<std::vector<SharedMedium::Listed>> S3Medium::list_facts(const std::string& folder,
                                                                 size_t max) {
  const std::string prefix = client_->place().prefix + folder + "/";
  std::vector<Listed> out;
  std::string token;
  const size_t pages_max = max / kPageMax + kEmptyPagesMax;
  for (size_t page = 0; page < pages_max && out.size() < max; ++page) {
    S3Request request;
    request.kind = S3Kind::list;
    request.bucket = true;
    request.text_max = kS3XmlBytesMax;
    request.query = {{"list-type", "2"},
                     {"prefix", prefix},
                     {"delimiter", "/"},
                     {"encoding-type", "url"},
                     {"max-keys", std::to_string(std::min(max - out.size(), kPageMax))}};
    if (!token.empty()) request.query.emplace_back("continuation-token", token);
    S3Listing listing;
    int64_t now_s = -1;
    request.check = [&](const HttpAnswer& answer) -> Status {
      TERRACE_ASSIGN_OR_RETURN(listing, parse_s3_listing(answer.text));
      now_s = s3_time_of(answer, "date");
      return now_s >= 0 ? ok_status()
                        : error(StatusCode::kUnavailable, "s3: a listing without Date");
    };
    TERRACE_RETURN_IF_ERROR(client_->call(request, until(0)).status());
    const auto add = [&](std::string_view key, std::optional<Facts> facts) {
      if (!key.starts_with(prefix) || out.size() >= max) return;
      const std::string_view name = key.substr(prefix.size());
      if (is_name(name)) out.push_back({std::string(name), facts});
    };
    for (const S3Listing::Object& each : listing.objects) {
      const Nanos age = milliseconds(std::max<int64_t>(0, now_s * 1000 - each.modified_ms));
      add(each.key, Facts{each.bytes, age});
    }
    for (const std::string& each : listing.prefixes) {
      if (each.ends_with('/')) add(std::string_view(each).substr(0, each.size() - 1), std::nullopt);
    }
    if (!listing.truncated || out.size() >= max) return out;
    token = std::move(listing.next);
  }
  // A part taken for the whole would leave copies behind an erase.
  return error(StatusCode::kResourceExhausted,
               "s3 list " + prefix + ": not over after " + std::to_string(pages_max) + " pages");
}

StatusOr<std::vector<std::string>> S3Medium::list(const std::string& folder, size_t max) {
  TERRACE_ASSIGN_OR_RETURN(std::vector<Listed> listed, list_facts(folder, max));
  std::vector<std::string> names;
  names.reserve(listed.size());
  for (Listed& each : listed) names.push_back(std::move(each.name));
  return names;
}

/// Several at once create one name: a server that looks first and writes then lets two of them.
Status S3Medium::check_race(int round) {
  const std::string name = std::string(kTemporaries) + "/race." + fresh_id();
  std::array<Status, kRacers> made;
  std::vector<std::thread> threads;
  const Nanos end = until(0);
  for (Status& each : made) {
    threads.emplace_back([&, this] { each = create_once(name, std::to_string(round), end); });
  }
  for (std::thread& each : threads) each.join();
  int won = 0;
  for (const Status& each : made) {
    if (each.ok()) ++won;
    if (!each.ok() && each.code() != StatusCode::kAlreadyExists) return each;
  }
  const Status removed = erase(name, end);
  if (won != 1) return no_conditions("created one name " + std::to_string(won) + " times at once");
  return removed;
}

Status S3Medium::check() {
  const std::string name = std::string(kTemporaries) + "/check." + fresh_id();
  const Nanos end = until(0);
  TERRACE_RETURN_IF_ERROR(create_once(name, "1", end));
  const Status again = create_once(name, "2", end);
  TERRACE_RETURN_IF_ERROR(erase(name, end));
  if (again.ok()) return no_conditions("ignores If-None-Match");
  if (again.code() != StatusCode::kAlreadyExists) return again;
  for (int round = 0; round < kRaces; ++round) TERRACE_RETURN_IF_ERROR(check_race(round));
  creates_once_ = true;
  return ok_status();
}

Status S3Medium::probe() {
  const std::string name = std::string(kTemporaries) + "/probe." + fresh_id();
  std::byte content{'p'};
  const iovec piece{&content, 1};
  const Nanos end = until(0);
  TERRACE_RETURN_IF_ERROR(put(name, {&piece, 1}, end));
  std::byte back{};
  {
    TERRACE_ASSIGN_OR_RETURN(const std::unique_ptr<SharedBytes> object, open(name));
    TERRACE_RETURN_IF_ERROR(object->read(0, {&back, 1}));
  }
  TERRACE_RETURN_IF_ERROR(erase(name, end));
  return back == content ? ok_status()
                         : error(StatusCode::kUnavailable, "s3: the bucket gives back other bytes");
}
}  // namespace terrace
