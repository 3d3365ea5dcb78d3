#include "server/node/view_board.h"

#include <atomic>

namespace terrace {

StatusOr<ViewBoard> ViewBoard::create(uint64_t first_value) {
  ViewBoard board;
  TERRACE_ASSIGN_OR_RETURN(board.file_, make_memory_file("terrace-views", kBytes));
  TERRACE_ASSIGN_OR_RETURN(board.mapping_, ShmMapping::map(board.file_, {0, kBytes}, true));
  for (uint64_t& word : board.words()) word = first_value;
  for (uint32_t i = kWords; i > 0; --i) board.free_.push_back(i - 1);
  return board;
}

std::span<uint64_t> ViewBoard::words() const {
  return {reinterpret_cast<uint64_t*>(mapping_.memory().data()), kWords};
}

uint32_t ViewBoard::take() {
  if (free_.empty()) return kWords;
  const uint32_t word = free_.back();
  free_.pop_back();
  return word;
}

void ViewBoard::advance(uint32_t word) {
  std::atomic_ref<uint64_t>(words()[word]).fetch_add(1, std::memory_order_seq_cst);
}

const std::byte* ViewBoard::address(uint32_t word) const {
  return mapping_.memory().data() + word * sizeof(uint64_t);
}
}  // namespace terrace
