#include "storage/s3_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <sstream>
#include <string_view>

namespace terrace {
namespace {

constexpr size_t kTextMax = 512;
constexpr size_t kCredentialMax = 4096;

Status bad(const std::string& option, const std::string& value, const std::string& wanted) {
  return error(StatusCode::kInvalidArgument, option + "=\"" + value + "\": " + wanted);
}

Status bad_url(const std::string& url, const std::string& wanted) {
  return bad("shared_s3", url.substr(0, kTextMax),
             wanted + "; it is http[s]://HOST[:PORT]/BUCKET[/PREFIX]");
}

bool all_of(std::string_view text, std::string_view more) {
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           more.find(c) != std::string_view::npos;
  });
}

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

/// It goes into a header.
bool is_clean(std::string_view value) {
  return value.size() <= kCredentialMax &&
         std::all_of(value.begin(), value.end(), [](char c) { return c > ' ' && c <= '~'; });
}

bool port_is_good(std::string_view port) {
  uint16_t number = 0;
  const auto [end, failed] = std::from_chars(port.data(), port.data() + port.size(), number);
  return failed == std::errc() && end == port.data() + port.size() && number != 0;
}
}  // namespace

StatusOr<S3Place> parse_s3_url(const std::string& url) {
  S3Place out;
  if (url.size() > kTextMax) return bad_url(url, "at most 512 characters");
  const size_t colon = url.find("://");
  out.scheme = url.substr(0, std::min(colon, url.size()));
  if (colon == std::string::npos || (out.scheme != "http" && out.scheme != "https")) {
    return bad_url(url, "http:// or https://");
  }
  const std::string rest = url.substr(colon + 3);
  const size_t slash = rest.find('/');
  out.host = rest.substr(0, slash);
  const size_t port = out.host.find(':');
  const std::string name = out.host.substr(0, port);
  if (name.empty() || !all_of(name, "-.") ||
      (port != std::string::npos && !port_is_good(std::string_view(out.host).substr(port + 1)))) {
    return bad_url(url, "a host name or IPv4 address, and a port or none (no user, no password)");
  }
  if (slash == std::string::npos) return bad_url(url, "a bucket");
  std::string path = rest.substr(slash + 1);
  while (path.ends_with('/')) path.pop_back();
  const size_t end = path.find('/');
  out.bucket = path.substr(0, end);
  if (out.bucket.size() < 3 || out.bucket.size() > 63 || !all_of(out.bucket, "-._")) {
    return bad_url(url, "a bucket of 3 to 63 letters, digits, '.', '-', '_'");
  }
  if (end == std::string::npos) return out;
  out.prefix = path.substr(end + 1) + "/";
  const bool odd = out.prefix.find("//") != std::string::npos || out.prefix.starts_with('/') ||
                   out.prefix.find("./") != std::string::npos;
  if (odd || !all_of(out.prefix, "-._/")) {
    return bad_url(url, "a prefix of letters, digits, '.', '-', '_', and '/' in between");
  }
  return out;
}

Status S3Config::validate() const {
  if (!used()) {
    const bool alone = path_style && credentials_file.empty() && ca_file.empty();
    return alone ? ok_status() : bad("shared_s3", "", "shared_s3_* options need it");
  }
  TERRACE_ASSIGN_OR_RETURN(const S3Place place, parse_s3_url(url));
  if (region.empty() || region.size() > kTextMax || !all_of(region, "-_")) {
    return bad("shared_s3_region", region, "letters, digits, '-', '_'");
  }
  if (!path_style && place.bucket.find_first_of("._") != std::string::npos) {
    return bad("shared_s3_path_style", "false",
               "the bucket's name must be a part of a host name: without '.' and '_'");
  }
  return ok_status();
}

S3Credentials s3_environment(const char* const* environment) {
  S3Credentials out;
  const std::array<std::pair<std::string_view, std::string*>, 3> wanted = {{
      {"AWS_ACCESS_KEY_ID=", &out.access_key},
      {"AWS_SECRET_ACCESS_KEY=", &out.secret_key},
      {"AWS_SESSION_TOKEN=", &out.session_token},
  }};
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const std::string_view entry = *environment;
    for (const auto& [name, into] : wanted) {
      const bool ours = entry.starts_with(name) && is_clean(entry.substr(name.size()));
      if (ours) *into = entry.substr(name.size());
    }
  }
  return out;
}

StatusOr<S3Credentials> parse_s3_credentials(const std::string& text) {
  S3Credentials out;
  std::istringstream lines(text);
  std::string line;
  bool ours = true;  // also without any [profile]
  for (size_t number = 1; std::getline(lines, line); ++number) {
    line = trimmed(line);
    if (line.empty() || line[0] == '#' || line[0] == ';') continue;
    if (line[0] == '[') {
      ours = line == "[default]";
      continue;
    }
    const size_t equals = line.find('=');
    const std::string name = trimmed(line.substr(0, equals));
    const std::string value = equals == std::string::npos ? "" : trimmed(line.substr(equals + 1));
    if (equals == std::string::npos || !is_clean(value)) {
      return error(StatusCode::kInvalidArgument,
                   "line " + std::to_string(number) + ": NAME = VALUE was expected");
    }
    if (!ours) continue;
    if (name == "aws_access_key_id") out.access_key = value;
    if (name == "aws_secret_access_key") out.secret_key = value;
    if (name == "aws_session_token") out.session_token = value;
  }
  if (out.access_key.empty() || out.secret_key.empty()) {
    return error(StatusCode::kInvalidArgument,
                 "no aws_access_key_id and aws_secret_access_key in profile [default]");
  }
  return out;
}
}  // namespace terrace
