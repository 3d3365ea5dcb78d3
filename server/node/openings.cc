#include "server/node/openings.h"

#include <utility>

namespace terrace {

Openings::Openings(NodeContext* context, uint64_t owner)
    : context_(context), owner_(owner), patience_([this] {
        late_ = true;
        give_up_waiting(StatusCode::kDeadlineExceeded);
      }) {}

Openings::~Openings() {
  TERRACE_CHECK(running_ == 0);
  context_->loop->disarm(&patience_);
}

void Openings::start(NamespaceId ns, std::vector<Item> items, uint32_t deadline_ms,
                     std::function<void()> over) {
  ns_ = ns;
  items_ = std::move(items);
  over_ = std::move(over);
  for (size_t i = 0; i < items_.size(); ++i) {
    openings_.push_back(std::make_unique<Opening>(this, i));
  }
  if (deadline_ms > 0) {
    context_->loop->arm(&patience_, context_->loop->now() + milliseconds(deadline_ms) / 2);
  }
  open_more();
  end_when_over();
}

void Openings::cancel(StatusCode why) {
  if (cancelled_ != StatusCode::kOk) return;
  cancelled_ = why;
  give_up_waiting(why);
  end_when_over();
}

void Openings::give_up_waiting(StatusCode why) {
  for (size_t i = 0; i < next_; ++i) context_->store->cancel_open(items_[i].reader, why);
}

void Openings::open_more() {
  while (cancelled_ == StatusCode::kOk && running_ < kRunningMax && next_ < items_.size()) {
    const Item& item = items_[next_];
    const Status started =
        context_->store->open_reader(ns_, item.key, owner_, item.reader, openings_[next_].get());
    if (started.ok()) {
      ++running_;
      if (late_) context_->store->cancel_open(item.reader, StatusCode::kDeadlineExceeded);
    } else {
      *item.code = started.code();
    }
    ++next_;
  }
}

void Openings::opened(size_t index, StatusCode code) {
  --running_;
  *items_[index].code = code;
  open_more();
  end_when_over();
}

void Openings::end_when_over() {
  if (running_ > 0 || !over_) return;
  if (cancelled_ == StatusCode::kOk && next_ < items_.size()) return;
  for (size_t i = next_; i < items_.size(); ++i) *items_[i].code = cancelled_;
  context_->loop->disarm(&patience_);
  std::exchange(over_, nullptr)();
}
}  // namespace terrace
