// storage/s3_http.h - one HTTP exchange, over connections that are kept: the only home of libcurl.
// Blocking; any thread, several at once.
#pragma once
#include <sys/uio.h>

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"

namespace terrace {

struct HttpRequest {
  std::string method;  // GET, HEAD, PUT, POST, DELETE
  std::string url;
  std::vector<std::string> headers;  // "Name: value"
  std::span<const iovec> body;       // sent as it lies there
  /// Where the body of an answer 200 or 206 goes. Empty: to HttpAnswer::text.
  std::span<const iovec> into;
  size_t text_max = 0;          // more than so many bytes of text: the exchange fails
  Nanos timeout{0};             // of all of it
  Nanos patience{0};            // how long nothing may move
  bool works_silently = false;  // once it is connected: the server may say nothing in between
};

struct HttpAnswer {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case; the last of each
  std::string text;
  uint64_t placed = 0;  // bytes that went to HttpRequest::into
};

/// "Fri, 24 May 2013 00:00:00 GMT" as seconds since 1970; -1: it is none.
int64_t parse_http_date(const std::string& text);

class S3Http {
 public:
  /// `ca_file`: see S3Config.
  explicit S3Http(std::string ca_file);
  ~S3Http();
  S3Http(const S3Http&) = delete;
  S3Http& operator=(const S3Http&) = delete;
  /// An answer of whatever status, whole as its own length says. kDeadlineExceeded: there was none
  /// in time, or nobody to connect to. kUnavailable: it broke off, was too long, or not HTTP.
  /// kFailedPrecondition: the server's certificate is not to be trusted.
  StatusOr<HttpAnswer> send(const HttpRequest& request);

 private:
  class Connections;
  const std::string ca_file_;
  const std::unique_ptr<Connections> connections_;
};
}  // namespace terrace
