#include "client/client_op.h"

#include <algorithm>

#include "client/operations.h"
#include "proto/data.pb.h"

namespace terrace {

ClientOp::ClientOp()
    : deadline_timer_([this] {
        const Nanos begun = begun_;
        Operations* const operations = operations_;
        const bool started = started_;
        const uint32_t node = head.node;
        end(error(
            StatusCode::kDeadlineExceeded,
            started ? "the deadline passed" : "the deadline passed before the node was there"));
        if (started) operations->expired(node, begun);
      }) {}

ClientOp::~ClientOp() = default;

void ClientOp::adopt(Operations* operations) {
  operations_ = operations;
  operations->loop()->arm(&deadline_timer_, head.deadline);
}

void ClientOp::start(uint32_t ns) {
  started_ = true;
  begun_ = operations_->loop()->now();
  const Status status = on_start(ns);
  if (!status.ok()) end(status);
}

void ClientOp::end(const Status& why, bool peer_is_gone) {
  if (finished_) return;
  if (!ending_) {
    ending_ = true;
    why_ = why;
    operations_->loop()->disarm(&deadline_timer_);
    const std::vector<Tag> tags = std::exchange(tags_, {});
    for (const Tag& tag : tags) {
      operations_->close_tag(tag.tag);
      if (peer_is_gone) continue;
      operations_->send_cancel(head.node, tag.tag);
      if (tag.touches_memory) quiesce(tag.tag);
    }
  }
  if (quiescing_ == 0) finish(why_);
}

uint64_t ClientOp::open_tag(uint32_t sub, bool touches_memory) {
  const uint64_t tag = operations_->open_tag(this, sub);
  tags_.push_back({tag, touches_memory});
  return tag;
}

void ClientOp::close_tag(uint64_t tag) {
  operations_->close_tag(tag);
  std::erase_if(tags_, [tag](const Tag& t) { return t.tag == tag; });
}

void ClientOp::quiesce(uint64_t tag) {
  ++quiescing_;
  quiesces_.push_back(std::make_unique<Quiesced>(this));
  operations_->quiesce(head.node, tag, quiesces_.back().get());
}

void ClientOp::quiesce_done() {
  TERRACE_CHECK(quiescing_ > 0);
  --quiescing_;
  if (!ending_) return on_quiesced();
  if (quiescing_ == 0) finish(why_);
}

void ClientOp::finish(const Status& why) {
  TERRACE_CHECK(quiescing_ == 0 && !finished_);
  ending_ = finished_ = true;
  operations_->loop()->disarm(&deadline_timer_);
  for (const Tag& tag : tags_) operations_->close_tag(tag.tag);
  tags_.clear();
  Completion completion;
  completion.op = head.id;
  completion.user_tag = head.user_tag;
  fill(why, &completion);
  completion.elapsed = operations_->loop()->now() - head.submitted;
  release_memory();
  operations_->finished(this, std::move(completion));
}

void ClientOp::end_later(Status why) {
  operations_->end_later(head.id, std::move(why));
}

uint32_t ClientOp::deadline_ms() const {
  const auto left =
      std::chrono::ceil<milliseconds>(head.deadline - operations_->loop()->now()).count();
  return static_cast<uint32_t>(std::clamp<int64_t>(left, 1, 3'600'000));
}

Status ClientOp::accept_read(uint32_t, std::span<const RemoteSpan>) {
  return error(StatusCode::kPermissionDenied, "this operation lends no memory");
}
}  // namespace terrace
