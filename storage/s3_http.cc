#include "storage/s3_http.h"

#include <curl/curl.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <mutex>
#include <string_view>
#include <utility>

#include "base/check.h"

namespace terrace {
namespace {

constexpr size_t kHeadersMax = 64;
constexpr size_t kHeaderBytesMax = 4096;
constexpr long kConnectionIdleSeconds = 50;  // many servers close theirs after 60
constexpr long kBufferBytes = 256L << 10;

/// What the callbacks of one exchange work on.
struct Exchange {
  const HttpRequest* request = nullptr;
  HttpAnswer answer;
  size_t piece = 0;  // of the body that is sent: where it is
  size_t at = 0;
  size_t into_piece = 0;
  size_t into_at = 0;
  bool too_long = false;
};

/// Copies from gathered memory; where it is moves on.
size_t take(std::span<const iovec> from, size_t* piece, size_t* at, char* into, size_t max) {
  size_t done = 0;
  while (done < max && *piece < from.size()) {
    const iovec& run = from[*piece];
    const size_t bytes = std::min(max - done, run.iov_len - *at);
    if (bytes > 0) std::memcpy(into + done, static_cast<const char*>(run.iov_base) + *at, bytes);
    done += bytes;
    *at += bytes;
    if (*at == run.iov_len) ++*piece, *at = 0;
  }
  return done;
}

size_t on_read(char* into, size_t size, size_t count, void* self) {
  auto* const exchange = static_cast<Exchange*>(self);
  return take(exchange->request->body, &exchange->piece, &exchange->at, into, size * count);
}

/// A kept connection that turns out to be closed: libcurl sends again from the beginning.
int on_seek(void* self, curl_off_t offset, int origin) {
  auto* const exchange = static_cast<Exchange*>(self);
  if (offset != 0 || origin != SEEK_SET) return CURL_SEEKFUNC_CANTSEEK;
  exchange->piece = exchange->at = 0;
  return CURL_SEEKFUNC_OK;
}

size_t on_header(char* data, size_t size, size_t count, void* self) {
  auto* const exchange = static_cast<Exchange*>(self);
  const std::string_view line(data, size * count);
  std::map<std::string, std::string>& headers = exchange->answer.headers;
  if (line.starts_with("HTTP/")) headers.clear();  // of a 100 Continue before
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return line.size();
  if (line.size() > kHeaderBytesMax || headers.size() >= kHeadersMax) return 0;
  std::string name(line.substr(0, colon));
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  std::string_view value = line.substr(colon + 1);
  while (!value.empty() && std::isspace(static_cast<unsigned char>(value.front()))) {
    value.remove_prefix(1);
  }
  while (!value.empty() && std::isspace(static_cast<unsigned char>(value.back()))) {
    value.remove_suffix(1);
  }
  headers[name] = value;
  return line.size();
}

size_t place(Exchange* exchange, const char* data, size_t bytes) {
  size_t done = 0;
  const std::span<const iovec> into = exchange->request->into;
  while (done < bytes && exchange->into_piece < into.size()) {
    const iovec& run = into[exchange->into_piece];
    const size_t part = std::min(bytes - done, run.iov_len - exchange->into_at);
    if (part > 0) {
      std::memcpy(static_cast<char*>(run.iov_base) + exchange->into_at, data + done, part);
    }
    done += part;
    exchange->into_at += part;
    if (exchange->into_at == run.iov_len) ++exchange->into_piece, exchange->into_at = 0;
  }
  exchange->answer.placed += done;
  if (done < bytes) exchange->too_long = true;
  return done;
}

struct Sink {
  Exchange* exchange;
  CURL* curl;
};

size_t on_body(char* data, size_t size, size_t count, void* self) {
  const auto* const sink = static_cast<Sink*>(self);
  Exchange* const exchange = sink->exchange;
  long status = 0;
  ::curl_easy_getinfo(sink->curl, CURLINFO_RESPONSE_CODE, &status);
  const size_t bytes = size * count;
  const bool data_wanted = !exchange->request->into.empty() && (status == 200 || status == 206);
  if (data_wanted) return place(exchange, data, bytes);
  std::string& text = exchange->answer.text;
  if (text.size() + bytes > exchange->request->text_max) {
    exchange->too_long = true;
    return 0;
  }
  text.append(data, bytes);
  return bytes;
}

Status failed(CURLcode code, const Exchange& exchange) {
  const std::string what = std::string("s3: ") + ::curl_easy_strerror(code);
  switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
      return error(StatusCode::kDeadlineExceeded, what);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
      return error(StatusCode::kFailedPrecondition,
                   what + ": is the server who it says? see shared_s3_ca_file");
    case CURLE_WRITE_ERROR:
      return error(StatusCode::kUnavailable,
                   exchange.too_long ? "s3: more bytes came than were asked for" : what);
    default:
      return error(StatusCode::kUnavailable, what);
  }
}

template <class T>
void set(CURL* curl, CURLoption option, T value) {
  TERRACE_CHECK(::curl_easy_setopt(curl, option, value) == CURLE_OK);
}

/// What is the same for all.
void set_up(CURL* curl, const std::string& ca_file) {
  ::curl_easy_reset(curl);  // connections stay
  set(curl, CURLOPT_NOSIGNAL, 1L);
  set(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  set(curl, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(curl, CURLOPT_PROXY, "");  // none, whatever the environment says
  set(curl, CURLOPT_FOLLOWLOCATION, 0L);
  set(curl, CURLOPT_SSL_VERIFYPEER, 1L);
  set(curl, CURLOPT_SSL_VERIFYHOST, 2L);
  set(curl, CURLOPT_TCP_NODELAY, 1L);
  set(curl, CURLOPT_MAXCONNECTS, 2L);
  set(curl, CURLOPT_MAXAGE_CONN, kConnectionIdleSeconds);
  set(curl, CURLOPT_BUFFERSIZE, kBufferBytes);
  set(curl, CURLOPT_UPLOAD_BUFFERSIZE, kBufferBytes);
  if (!ca_file.empty()) set(curl, CURLOPT_CAINFO, ca_file.c_str());
}

void set_method(CURL* curl, const HttpRequest& request, Exchange* exchange) {
  uint64_t bytes = 0;
  for (const iovec& piece : request.body) bytes += piece.iov_len;
  if (request.method == "HEAD") {
    set(curl, CURLOPT_NOBODY, 1L);
  } else if (request.method == "PUT" || request.method == "POST") {
    set(curl, CURLOPT_UPLOAD, 1L);
    set(curl, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(bytes));
    set(curl, CURLOPT_READFUNCTION, on_read);
    set(curl, CURLOPT_READDATA, exchange);
    set(curl, CURLOPT_SEEKFUNCTION, on_seek);
    set(curl, CURLOPT_SEEKDATA, exchange);
  }
  set(curl, CURLOPT_CUSTOMREQUEST, request.method.c_str());
}
}  // namespace

int64_t parse_http_date(const std::string& text) {
  return static_cast<int64_t>(::curl_getdate(text.c_str(), nullptr));
}

/// Handles of libcurl, one for each thread that is in an exchange; each keeps its connections.
class S3Http::Connections {
 public:
  Connections() {
    static const bool ready = ::curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
    TERRACE_CHECK(ready);
  }
  ~Connections() {
    for (CURL* const each : free_) ::curl_easy_cleanup(each);
  }
  CURL* take() {
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        CURL* const last = free_.back();
        free_.pop_back();
        return last;
      }
    }
    CURL* const made = ::curl_easy_init();
    TERRACE_CHECK(made != nullptr);
    return made;
  }
  void give_back(CURL* curl) {
    const std::lock_guard lock(mutex_);
    free_.push_back(curl);
  }

 private:
  std::mutex mutex_;
  std::vector<CURL*> free_;  // guarded by mutex_
};

S3Http::S3Http(std::string ca_file)
    : ca_file_(std::move(ca_file)), connections_(std::make_unique<Connections>()) {}

S3Http::~S3Http() = default;

StatusOr<HttpAnswer> S3Http::send(const HttpRequest& request) {
  CURL* const curl = connections_->take();
  Exchange exchange;
  exchange.request = &request;
  Sink sink{&exchange, curl};
  set_up(curl, ca_file_);
  set_method(curl, request, &exchange);
  set(curl, CURLOPT_URL, request.url.c_str());
  const auto ms = [](Nanos time) {
    return std::max<long>(
        1, static_cast<long>(std::chrono::duration_cast<milliseconds>(time).count()));
  };
  set(curl, CURLOPT_TIMEOUT_MS, ms(request.timeout));
  set(curl, CURLOPT_CONNECTTIMEOUT_MS, ms(std::min(request.timeout, request.patience)));
  if (!request.works_silently) {
    set(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(curl, CURLOPT_LOW_SPEED_TIME, std::max(1L, ms(request.patience) / 1000));
  }
  set(curl, CURLOPT_HEADERFUNCTION, on_header);
  set(curl, CURLOPT_HEADERDATA, &exchange);
  set(curl, CURLOPT_WRITEFUNCTION, on_body);
  set(curl, CURLOPT_WRITEDATA, &sink);
  curl_slist* headers = ::curl_slist_append(nullptr, "Expect:");  // no wait before the body
  for (const std::string& line : request.headers) {
    headers = ::curl_slist_append(headers, line.c_str());
  }
  set(curl, CURLOPT_HTTPHEADER, headers);
  const CURLcode code = ::curl_easy_perform(curl);
  long status = 0;
  ::curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  ::curl_slist_free_all(headers);
  connections_->give_back(curl);
  // A server that says how it failed before it took the whole body, and then closes.
  const bool said = code == CURLE_SEND_ERROR && status >= 400;
  if (code != CURLE_OK && !said) return failed(code, exchange);
  exchange.answer.status = static_cast<int>(status);
  return std::move(exchange.answer);
}
}  // namespace terrace
