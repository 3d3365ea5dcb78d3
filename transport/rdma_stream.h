// transport/rdma_stream.h - the records of one direction, cut into frames on one side and put
// together again on the other. Knows no verbs and no meaning. Thread-confined.
#pragma once
#include <deque>
#include <span>
#include <vector>

#include "transport/rdma_wire.h"

namespace terrace {

/// What waits to be sent. Steps of transfers go before messages, at the borders of records; both
/// stay in order among themselves. The bounds are the caller's.
class RdmaOutStream {
 public:
  /// `record.body_bytes` is set from the two parts of the body, which are copied.
  void push_step(RdmaRecord record, std::span<const std::byte> body = {},
                 std::span<const std::byte> body_rest = {});
  void push_message(RdmaRecord record, std::span<const std::byte> body);
  bool empty() const { return steps_.empty() && messages_.empty(); }
  size_t messages() const { return messages_.size(); }
  size_t message_bytes() const { return message_bytes_; }
  size_t step_bytes() const { return step_bytes_; }
  /// Moves as many bytes as there are and fit; returns how many.
  size_t fill(std::span<std::byte> into);
  void clear();

 private:
  using Bytes = std::vector<std::byte>;
  static Bytes join(RdmaRecord record, std::span<const std::byte> body,
                    std::span<const std::byte> body_rest);
  std::deque<Bytes> steps_;
  std::deque<Bytes> messages_;
  size_t message_bytes_ = 0;
  size_t step_bytes_ = 0;
  size_t taken_ = 0;         // of the record that is partly sent
  bool in_message_ = false;  // that record is a message's
};

/// Puts records together. Holds at most one record's body, and only as much of it as came.
class RdmaInStream {
 public:
  class Sink {
   public:
    /// `body` is valid during the call. Non-OK ends the feed with it.
    virtual Status record_came(const RdmaRecord& record, std::span<const std::byte> body) = 0;

   protected:
    ~Sink() = default;
  };
  /// kInvalidArgument for what is no record; else what the sink said.
  Status feed(std::span<const std::byte> bytes, Sink* sink);

 private:
  std::array<std::byte, kRdmaRecordBytes> header_{};
  size_t header_have_ = 0;
  RdmaRecord record_;
  std::vector<std::byte> body_;
};
}  // namespace terrace
