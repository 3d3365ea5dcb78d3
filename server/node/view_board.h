// server/node/view_board.h - one word for every view, in a memory file that clients map read-only:
// while a view may be read its word has the value that came with it. Words only ever grow, also
// over restarts of the node. Loop thread only.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "transport/shm_memory.h"

namespace terrace {

class ViewBoard {
 public:
  static constexpr uint32_t kWords = 65536;
  static constexpr uint64_t kBytes = uint64_t{kWords} * sizeof(uint64_t);

  /// Errors: those of make_memory_file() and ShmMapping::map().
  static StatusOr<ViewBoard> create(uint64_t first_value);
  /// The board of an earlier run: every word grows past what it was, and to `first_value` at least,
  /// so that no view of that run is valid any more. kInvalidArgument: the file is no board.
  static StatusOr<ViewBoard> take_back(Fd file, uint64_t first_value);
  /// A word that nobody uses; kWords: there is none.
  uint32_t take();
  void give_back(uint32_t word) { free_.push_back(word); }
  uint64_t value(uint32_t word) const { return words()[word]; }
  /// From here on no view that had this word is valid.
  void advance(uint32_t word);
  const std::byte* address(uint32_t word) const;
  /// All of it, and its descriptor to read from.
  std::span<const std::byte> memory() const { return mapping_.memory(); }
  const Fd& file() const { return file_; }
  StatusOr<Fd> descriptor() const { return reopen_read_only(file_); }

 private:
  Status map();
  std::span<uint64_t> words() const;
  Fd file_;
  ShmMapping mapping_;
  std::vector<uint32_t> free_;
};
}  // namespace terrace
