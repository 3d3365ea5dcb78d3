// Large objects of a bucket go in parts: nothing is seen before all are there, and what does not
// get so far is aborted.
#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/log.h"
#include "storage/s3_client.h"
#include "storage/s3_medium.h"
#include "storage/s3_object.h"
#include "storage/s3_xml.h"

namespace terrace {
namespace {

/// `bytes` of gathered memory from where the last call ended.
class Parts {
 public:
  explicit Parts(std::span<const iovec> pieces) : left_(pieces.begin(), pieces.end()) {}
  std::vector<iovec> next(uint64_t bytes) {
    std::vector<iovec> out;
    while (bytes > 0 && at_ < left_.size()) {
      iovec& piece = left_[at_];
      const size_t part = std::min<size_t>(bytes, piece.iov_len);
      if (part > 0) out.push_back({piece.iov_base, part});
      piece = {static_cast<std::byte*>(piece.iov_base) + part, piece.iov_len - part};
      bytes -= part;
      if (piece.iov_len == 0) ++at_;
    }
    return out;
  }

 private:
  std::vector<iovec> left_;
  size_t at_ = 0;
};

/// In XML, the characters that ETags may have and text may not.
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '"') out += "&quot;";
    if (c == '&') out += "&amp;";
    if (c == '<') out += "&lt;";
    if (c == '>') out += "&gt;";
    if (c != '"' && c != '&' && c != '<' && c != '>') out += c;
  }
  return out;
}
}  // namespace

Status S3Medium::put_in_parts(const std::string& name, std::span<const iovec> pieces,
                              uint64_t bytes, Nanos until) {
  S3Request begin;
  begin.kind = S3Kind::multipart;
  begin.method = "POST";
  begin.key = name;
  begin.query = {{"uploads", ""}};
  begin.headers = {{kS3IdHeader, fresh_id()}};
  std::string upload;
  begin.check = [&upload](const HttpAnswer& answer) -> Status {
    TERRACE_ASSIGN_OR_RETURN(
        upload, parse_s3_field(answer.text, "InitiateMultipartUploadResult", "UploadId"));
    return ok_status();
  };
  TERRACE_RETURN_IF_ERROR(client_->call(begin, until).status());
  Parts parts(pieces);
  std::vector<std::string> etags;
  Status done;
  for (uint64_t at = 0; at < bytes && done.ok(); at += options_.part_bytes) {
    const std::vector<iovec> part = parts.next(std::min(options_.part_bytes, bytes - at));
    const auto number = static_cast<uint32_t>(etags.size() + 1);
    StatusOr<std::string> etag = put_part(name, upload, number, part, until);
    done = etag.status();
    if (etag.ok()) etags.push_back(std::move(*etag));
  }
  if (done.ok()) done = complete(name, upload, etags, until);
  if (done.ok()) return done;
  S3Request abort;
  abort.kind = S3Kind::multipart;
  abort.method = "DELETE";
  abort.key = name;
  abort.query = {{"uploadId", upload}};
  // Of one that did come about there is nothing left to abort.
  const Status aborted = client_->call(abort, this->until(0)).status();
  if (!aborted.ok() && aborted.code() != StatusCode::kNotFound) {
    spdlog::warn("event=s3_upload_left name={} error=\"{}\"", name, aborted.to_string());
  }
  return done;
}

StatusOr<std::string> S3Medium::put_part(const std::string& name, const std::string& upload,
                                         uint32_t number, std::span<const iovec> part,
                                         Nanos until) {
  S3Request request;
  request.kind = S3Kind::multipart;
  request.method = "PUT";
  request.key = name;
  request.query = {{"partNumber", std::to_string(number)}, {"uploadId", upload}};
  request.body = part;
  request.check = s3_has_etag;
  TERRACE_ASSIGN_OR_RETURN(const HttpAnswer answer, client_->call(request, until));
  return answer.headers.at("etag");
}

Status S3Medium::complete(const std::string& name, const std::string& upload,
                          const std::vector<std::string>& etags, Nanos until) {
  std::string body = "<CompleteMultipartUpload>";
  for (size_t i = 0; i < etags.size(); ++i) {
    body += "<Part><PartNumber>" + std::to_string(i + 1) + "</PartNumber><ETag>" +
            escaped(etags[i]) + "</ETag></Part>";
  }
  body += "</CompleteMultipartUpload>";
  const iovec piece{body.data(), body.size()};
  S3Request request;
  request.kind = S3Kind::multipart;
  request.method = "POST";
  request.key = name;
  request.query = {{"uploadId", upload}};
  request.body = {&piece, 1};
  request.works_silently = true;
  request.once_silent = true;
  request.check = [](const HttpAnswer& answer) {
    return parse_s3_field(answer.text, "CompleteMultipartUploadResult", "ETag").status();
  };
  int attempts = 0;
  const Status done = client_->call(request, until, &attempts).status();
  if (done.code() != StatusCode::kNotFound || attempts < 2) return done;
  // The upload is gone: an attempt whose answer got lost was it, if the object is there.
  return head(name, until).status();
}
}  // namespace terrace
