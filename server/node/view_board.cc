#include "server/node/view_board.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace terrace {

StatusOr<ViewBoard> ViewBoard::create(uint64_t first_value) {
  ViewBoard board;
  TERRACE_ASSIGN_OR_RETURN(board.file_, make_memory_file("terrace-views", kBytes));
  TERRACE_RETURN_IF_ERROR(board.map());
  for (uint64_t& word : board.words()) word = first_value;
  return board;
}

StatusOr<ViewBoard> ViewBoard::take_back(Fd file, uint64_t first_value) {
  ViewBoard board;
  board.file_ = std::move(file);
  TERRACE_RETURN_IF_ERROR(board.map());
  for (uint64_t& word : board.words()) {
    std::atomic_ref<uint64_t> shared(word);
    shared.store(std::max(shared.load() + 1, first_value), std::memory_order_seq_cst);
  }
  return board;
}

Status ViewBoard::map() {
  TERRACE_ASSIGN_OR_RETURN(mapping_, ShmMapping::map(file_, {0, kBytes}, true));
  for (uint32_t i = kWords; i > 0; --i) free_.push_back(i - 1);
  return ok_status();
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
