#include "transport/rdma_stream.h"

#include <algorithm>
#include <cstring>

namespace terrace {

RdmaOutStream::Bytes RdmaOutStream::join(RdmaRecord record, std::span<const std::byte> body,
                                         std::span<const std::byte> body_rest) {
  record.body_bytes = static_cast<uint32_t>(body.size() + body_rest.size());
  Bytes out(kRdmaRecordBytes + record.body_bytes);
  encode(record, std::span(out).first<kRdmaRecordBytes>());
  const auto after = std::copy(body.begin(), body.end(), out.begin() + kRdmaRecordBytes);
  std::copy(body_rest.begin(), body_rest.end(), after);
  return out;
}

void RdmaOutStream::push_step(RdmaRecord record, std::span<const std::byte> body,
                              std::span<const std::byte> body_rest) {
  steps_.push_back(join(record, body, body_rest));
  step_bytes_ += steps_.back().size();
}

void RdmaOutStream::push_message(RdmaRecord record, std::span<const std::byte> body) {
  messages_.push_back(join(record, body, {}));
  message_bytes_ += messages_.back().size();
}

size_t RdmaOutStream::fill(std::span<std::byte> into) {
  size_t filled = 0;
  while (filled < into.size() && !empty()) {
    if (taken_ == 0) in_message_ = steps_.empty();
    std::deque<Bytes>& from = in_message_ ? messages_ : steps_;
    const Bytes& record = from.front();
    const size_t bytes = std::min(record.size() - taken_, into.size() - filled);
    std::memcpy(into.data() + filled, record.data() + taken_, bytes);
    filled += bytes;
    taken_ += bytes;
    if (taken_ < record.size()) break;
    (in_message_ ? message_bytes_ : step_bytes_) -= record.size();
    from.pop_front();
    taken_ = 0;
  }
  return filled;
}

void RdmaOutStream::clear() {
  steps_.clear();
  messages_.clear();
  message_bytes_ = step_bytes_ = taken_ = 0;
}

Status RdmaInStream::feed(std::span<const std::byte> bytes, Sink* sink) {
  while (!bytes.empty()) {
    if (header_have_ < kRdmaRecordBytes) {
      const size_t took = std::min(kRdmaRecordBytes - header_have_, bytes.size());
      std::memcpy(header_.data() + header_have_, bytes.data(), took);
      header_have_ += took;
      bytes = bytes.subspan(took);
      if (header_have_ < kRdmaRecordBytes) return ok_status();
      TERRACE_ASSIGN_OR_RETURN(record_, decode_rdma_record(header_));
    }
    const size_t left = record_.body_bytes - body_.size();
    const std::span<const std::byte> part = bytes.first(std::min(left, bytes.size()));
    bytes = bytes.subspan(part.size());
    if (part.size() < left) {
      body_.insert(body_.end(), part.begin(), part.end());
      return ok_status();
    }
    header_have_ = 0;
    if (body_.empty()) {  // all of it lies in this frame
      TERRACE_RETURN_IF_ERROR(sink->record_came(record_, part));
      continue;
    }
    std::vector<std::byte> body = std::exchange(body_, {});
    body.insert(body.end(), part.begin(), part.end());
    TERRACE_RETURN_IF_ERROR(sink->record_came(record_, body));
  }
  return ok_status();
}
}  // namespace terrace
