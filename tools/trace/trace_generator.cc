#include "tools/trace/trace_generator.h"

#include <algorithm>
#include <cmath>

#include "base/prng.h"

namespace terrace {
namespace {
constexpr size_t kOpenConversationsMax = 256;  // that may still come back

struct Conversation {
  int64_t session = 0;
  int64_t turn = 0;
  std::vector<uint64_t> history;
};

class Generator {
 public:
  Generator(const TraceShape& shape, uint64_t seed) : shape_(shape), random_(seed) {
    next_id_ = uint64_t{shape.system_prompts} * shape.system_prompt_blocks;
  }

  TraceRequest next() {
    now_s_ += -std::log(1.0 - random_.unit()) / shape_.requests_per_second;
    Conversation& talk = pick();
    const uint64_t added = 1 + random_.below(shape_.new_blocks_max);
    for (uint64_t i = 0; i < added; ++i) talk.history.push_back(next_id_++);
    TraceRequest request;
    request.time = std::chrono::duration_cast<Nanos>(
        milliseconds(static_cast<int64_t>(std::llround(now_s_ * 1e3))));
    request.turn = ++talk.turn;
    request.session = talk.session;
    request.block_ids = talk.history;
    const uint64_t missing = random_.below(shape_.block_tokens);  // of the last block
    request.input_tokens = talk.history.size() * shape_.block_tokens - missing;
    request.output_tokens = 1 + random_.below(1000);
    if (missing != 0) talk.history.pop_back();  // the next turn fills it: another block then
    return request;
  }

 private:
  Conversation& pick() {
    if (!open_.empty() && random_.chance(shape_.return_percent)) {
      // Of two, the later one: people come back soon more often than late.
      const size_t index = std::max(random_.below(open_.size()), random_.below(open_.size()));
      if (open_[index].history.size() + shape_.new_blocks_max <= shape_.blocks_per_request_max) {
        std::rotate(open_.begin() + static_cast<ptrdiff_t>(index),
                    open_.begin() + static_cast<ptrdiff_t>(index) + 1, open_.end());
        return open_.back();
      }
      open_.erase(open_.begin() + static_cast<ptrdiff_t>(index));
    }
    if (open_.size() == kOpenConversationsMax) open_.erase(open_.begin());
    Conversation talk;
    talk.session = sessions_++;
    if (shape_.system_prompts > 0) {
      const uint64_t first = random_.below(shape_.system_prompts) * shape_.system_prompt_blocks;
      for (uint64_t i = 0; i < shape_.system_prompt_blocks; ++i) talk.history.push_back(first + i);
    }
    return open_.emplace_back(std::move(talk));
  }

  const TraceShape shape_;
  Prng random_;
  std::vector<Conversation> open_;  // the one used last is last
  uint64_t next_id_ = 0;
  int64_t sessions_ = 0;
  double now_s_ = 0;
};
}  // namespace

std::vector<TraceRequest> generate_trace(const TraceShape& shape, uint64_t seed) {
  Generator generator(shape, seed);
  std::vector<TraceRequest> requests;
  requests.reserve(shape.requests);
  for (uint32_t i = 0; i < shape.requests; ++i) requests.push_back(generator.next());
  return requests;
}
}  // namespace terrace
