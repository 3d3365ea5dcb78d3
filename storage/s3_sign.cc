#include "storage/s3_sign.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>

#include "base/check.h"
#include "base/digest.h"
#include "base/identity.h"

namespace terrace {
namespace {

constexpr std::string_view kAlgorithm = "AWS4-HMAC-SHA256";
constexpr std::string_view kService = "s3";
constexpr std::string_view kEnd = "aws4_request";
constexpr size_t kDayDigits = 8;  // of x-amz-date

std::string hex(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    out += kDigits[byte >> 4];
    out += kDigits[byte & 0xF];
  }
  return out;
}

bool plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '.' || c == '_' || c == '~';
}

std::string joined(std::string_view a, std::string_view b, std::string_view c, std::string_view d) {
  std::string out(a);
  for (const std::string_view part : {b, c, d}) out.append("/").append(part);
  return out;
}
}  // namespace

std::string s3_encode(std::string_view text, bool keep_slashes) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    if (plain(c) || (c == '/' && keep_slashes)) {
      out += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out += '%';
    out += kDigits[byte >> 4];
    out += kDigits[byte & 0xF];
  }
  return out;
}

std::string s3_query(const S3Fields& query) {
  S3Fields encoded;
  for (const auto& [name, value] : query) {
    encoded.emplace_back(s3_encode(name, false), s3_encode(value, false));
  }
  std::sort(encoded.begin(), encoded.end());
  std::string out;
  for (const auto& [name, value] : encoded) {
    if (!out.empty()) out += '&';
    out.append(name).append("=").append(value);
  }
  return out;
}

std::string s3_date(int64_t unix_seconds) {
  const std::chrono::sys_seconds time{std::chrono::seconds(unix_seconds)};
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(time - day);
  std::array<char, 32> text{};
  const int length = std::snprintf(
      text.data(), text.size(), "%04d%02u%02uT%02d%02d%02dZ", static_cast<int>(date.year()),
      static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
      static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
      static_cast<int>(clock.seconds().count()));
  return {text.data(), static_cast<size_t>(length)};
}

std::string s3_authorization(const S3ToSign& request, const S3Credentials& credentials,
                             const std::string& region) {
  S3Fields headers = request.headers;
  std::sort(headers.begin(), headers.end());
  std::string lines;
  std::string names;
  std::string date;
  for (const auto& [name, value] : headers) {
    lines.append(name).append(":").append(value).append("\n");
    names.append(names.empty() ? "" : ";").append(name);
    if (name == "x-amz-date") date = value;
  }
  TERRACE_CHECK(date.size() > kDayDigits);
  const std::string canonical = request.method + "\n" + request.path + "\n" +
                                s3_query(request.query) + "\n" + lines + "\n" + names + "\n" +
                                request.payload;
  const std::string day = date.substr(0, kDayDigits);
  const std::string scope = joined(day, region, kService, kEnd);
  std::string key = "AWS4" + credentials.secret_key;
  for (const std::string_view part :
       {std::string_view(day), std::string_view(region), kService, kEnd}) {
    key = hmac_sha256(key, part);
  }
  const std::string text =
      std::string(kAlgorithm) + "\n" + date + "\n" + scope + "\n" + sha256(canonical).hex();
  return std::string(kAlgorithm) + " Credential=" + credentials.access_key + "/" + scope +
         ",SignedHeaders=" + names + ",Signature=" + hex(hmac_sha256(key, text));
}
}  // namespace terrace
