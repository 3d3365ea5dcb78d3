#include "storage/s3_client.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <utility>

#include "base/digest.h"
#include "base/log.h"
#include "storage/s3_xml.h"

namespace terrace {
namespace {

constexpr Nanos kPauseLongest = seconds(2);
constexpr int64_t kSkewWorthS = 60;
constexpr size_t kCredentialsFileMax = 65536;

bool throttled(int status) {
  return status == 429 || status == 503;
}

S3Outcome outcome_of(int status) {
  if (status / 100 == 2) return S3Outcome::ok;
  if (status == 404) return S3Outcome::not_found;
  if (status == 412 || status == 409 || status == 304) return S3Outcome::condition;
  if (throttled(status)) return S3Outcome::throttled;
  return status / 100 == 5 ? S3Outcome::failed : S3Outcome::refused;
}

uint64_t bytes_of(std::span<const iovec> pieces) {
  uint64_t bytes = 0;
  for (const iovec& piece : pieces) bytes += piece.iov_len;
  return bytes;
}

uint64_t seed() {
  uint64_t out = 0;
  secure_random(std::as_writable_bytes(std::span(&out, 1)));
  return out;
}
}  // namespace

S3Client::S3Client(Options options, S3Place place, const Clock* clock)
    : options_(std::move(options)),
      place_(std::move(place)),
      clock_(clock),
      http_(options_.config.ca_file),
      credentials_(options_.config.environment),
      chance_(seed()) {}

StatusOr<std::unique_ptr<S3Client>> S3Client::make(const Options& options, const Clock* clock) {
  TERRACE_RETURN_IF_ERROR(options.config.validate());
  TERRACE_ASSIGN_OR_RETURN(S3Place place, parse_s3_url(options.config.url));
  std::unique_ptr<S3Client> client(new S3Client(options, std::move(place), clock));
  TERRACE_RETURN_IF_ERROR(client->read_credentials());
  return StatusOr<std::unique_ptr<S3Client>>(std::move(client));
}

Status S3Client::read_credentials() {
  const std::string& path = options_.config.credentials_file;
  if (path.empty()) {
    const bool there = !credentials_.access_key.empty() && !credentials_.secret_key.empty();
    return there ? ok_status()
                 : error(StatusCode::kInvalidArgument,
                         "shared_s3 needs shared_s3_credentials_file, or AWS_ACCESS_KEY_ID and "
                         "AWS_SECRET_ACCESS_KEY in the environment");
  }
  std::ifstream file(path);
  if (!file) {
    return error(StatusCode::kNotFound, "shared_s3_credentials_file " + path + ": cannot be read");
  }
  std::string text(kCredentialsFileMax, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  StatusOr<S3Credentials> read = parse_s3_credentials(text);
  if (!read.ok()) {
    return error(read.status().code(),
                 "shared_s3_credentials_file " + path + ": " + read.status().message());
  }
  const std::lock_guard lock(mutex_);
  credentials_ = std::move(*read);
  credentials_read_ = clock_->now();
  return ok_status();
}

/// Temporary ones are replaced in their file before they run out.
S3Credentials S3Client::credentials() {
  bool old = false;
  {
    const std::lock_guard lock(mutex_);
    old = !options_.config.credentials_file.empty() &&
          clock_->now() - credentials_read_ > kCredentialsGoodFor;
    if (old) credentials_read_ = clock_->now();
  }
  if (old) {
    const Status read = read_credentials();
    if (!read.ok()) spdlog::warn("event=s3_credentials error=\"{}\"", read.to_string());
  }
  const std::lock_guard lock(mutex_);
  return credentials_;
}

std::string S3Client::source_of(const std::string& key) const {
  return "/" + place_.bucket + "/" + s3_encode(place_.prefix + key, true);
}

HttpRequest S3Client::sign(const S3Request& request) {
  const S3Credentials who = credentials();
  const bool path_style = options_.config.path_style;
  S3ToSign signed_part;
  signed_part.method = request.method;
  signed_part.path = path_style ? "/" + place_.bucket : "";
  if (!request.bucket || !path_style) signed_part.path += "/";
  if (!request.bucket) signed_part.path += s3_encode(place_.prefix + request.key, true);
  signed_part.query = request.query;
  signed_part.headers = request.headers;
  signed_part.payload = sha256_of(request.body).hex();
  const std::string host = path_style ? place_.host : place_.bucket + "." + place_.host;
  signed_part.headers.emplace_back("host", host);
  signed_part.headers.emplace_back("x-amz-content-sha256", signed_part.payload);
  signed_part.headers.emplace_back("x-amz-date", s3_date(unix_seconds() + skew_s_));
  if (!who.session_token.empty()) {
    signed_part.headers.emplace_back("x-amz-security-token", who.session_token);
  }
  HttpRequest out;
  out.method = request.method;
  out.url = place_.scheme + "://" + host + signed_part.path;
  if (!request.query.empty()) out.url += "?" + s3_query(request.query);
  for (const auto& [name, value] : signed_part.headers) out.headers.push_back(name + ": " + value);
  out.headers.push_back("authorization: " +
                        s3_authorization(signed_part, who, options_.config.region));
  out.body = request.body;
  out.into = request.into;
  out.text_max = request.text_max;
  return out;
}

Status S3Client::judge(const S3Request& request, const HttpAnswer& answer, bool* again) {
  const int status = answer.status;
  if (status / 100 == 2) return request.check ? request.check(answer) : ok_status();
  const S3Error said = parse_s3_error(answer.text);
  const std::string what = "s3 " + std::string(name_of(request.kind)) + " " + place_.bucket + "/" +
                           place_.prefix + request.key + ": " + std::to_string(status) + " " +
                           said.code + (said.message.empty() ? "" : ": " + said.message);
  *again = throttled(status) || status / 100 == 5 || status == 409 || status == 408 ||
           said.code == "RequestTimeout";
  if (said.code == "RequestTimeTooSkewed" || said.code == "RequestExpired") {
    // Signed by the server's clock from now on.
    const auto date = answer.headers.find("date");
    const int64_t there = date == answer.headers.end() ? -1 : parse_http_date(date->second);
    const int64_t skew = there - unix_seconds();
    *again = there >= 0 && std::abs(skew - skew_s_) > kSkewWorthS;
    if (*again) skew_s_ = skew;
  }
  if (status / 100 == 3 || said.code == "NoSuchBucket" || said.code == "InvalidBucketName") {
    return error(StatusCode::kFailedPrecondition, what + " (endpoint, region and bucket right?)");
  }
  if (status == 404) return error(StatusCode::kNotFound, what);
  if (status == 412) return error(StatusCode::kAborted, what);
  if (status == 416) return error(StatusCode::kOutOfRange, what);
  if (said.code == "QuotaExceeded" || status == 507) {
    *again = false;
    return error(StatusCode::kResourceExhausted, what);
  }
  if (status == 401 || status == 403) return error(StatusCode::kPermissionDenied, what);
  return error(StatusCode::kUnavailable, what);
}

StatusOr<HttpAnswer> S3Client::once(const S3Request& request, Nanos until, bool* again) {
  HttpRequest http = sign(request);
  http.timeout = std::max<Nanos>(until - clock_->now(), milliseconds(1));
  http.patience = options_.patience;
  http.works_silently = request.works_silently;
  StatusOr<HttpAnswer> answer = http_.send(http);
  if (!answer.ok()) {
    const StatusCode code = answer.status().code();
    const bool silent = code == StatusCode::kDeadlineExceeded;
    *again = code != StatusCode::kFailedPrecondition && !(silent && request.once_silent);
    metrics_.count(request.kind, silent ? S3Outcome::silent : S3Outcome::broken);
    return answer;
  }
  const Status judged = judge(request, *answer, again);
  const bool nonsense = answer->status / 100 == 2 && !judged.ok();
  if (nonsense) *again = true;
  metrics_.count(request.kind, nonsense ? S3Outcome::broken : outcome_of(answer->status));
  if (!judged.ok()) return judged;
  metrics_.sent_bytes.fetch_add(bytes_of(request.body), std::memory_order_relaxed);
  metrics_.received_bytes.fetch_add(answer->placed + answer->text.size(),
                                    std::memory_order_relaxed);
  return answer;
}

/// Between a half and all of what doubles: a crowd that failed together does not come back so.
Nanos S3Client::pause_before(int attempt) {
  const Nanos longest = std::min(kPauseLongest, options_.pause * (int64_t{1} << attempt));
  const std::lock_guard lock(mutex_);
  return longest / 2 +
         Nanos(static_cast<int64_t>(chance_.below(static_cast<uint64_t>(longest.count()) / 2 + 1)));
}

void S3Client::rest(Nanos pause) {
  std::unique_lock lock(mutex_);
  never_.wait_for(lock, pause, [] { return false; });
}

StatusOr<HttpAnswer> S3Client::call(const S3Request& request, Nanos until, int* attempts) {
  Status last;
  for (int attempt = 0; attempt < options_.attempts_max; ++attempt) {
    if (attempt > 0) metrics_.retries.fetch_add(1, std::memory_order_relaxed);
    if (attempts != nullptr) *attempts = attempt + 1;
    bool again = false;
    StatusOr<HttpAnswer> answer = once(request, until, &again);
    if (answer.ok()) return answer;
    last = answer.status();
    const Nanos pause = pause_before(attempt);
    if (!again || clock_->now() + pause >= until) break;
    rest(pause);
  }
  return last;
}
}  // namespace terrace
