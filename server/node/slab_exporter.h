// server/node/slab_exporter.h - lends slabs of the dram tier to clients of this host, each to the
// tenant whose objects lie in it and to nobody else. Loop thread only.
#pragma once
#include <unordered_map>

#include "server/node/session.h"
#include "server/node/view_board.h"
#include "transport/shm_transport.h"

namespace terrace {

class Router;

class SlabExporter final : public ShmExporter {
 public:
  /// `board` may be seen by every client: it holds numbers that tell nothing.
  SlabExporter(ChunkStore* store, const Router* router, const ViewBoard* board)
      : store_(store), router_(router), board_(board) {}

  /// For bytes that are pinned. None: staging buffers, slabs of another tenant, bytes that reach
  /// from one slab into the next.
  std::optional<ShmPiece> locate(PeerId peer, std::span<const std::byte> memory) override;
  StatusOr<File> open(uint64_t file) override;
  /// The slab's memory is about to be replaced: what was lent of it is not lent any more.
  void slab_goes(uint32_t slab, ShmTransport* transport);

 private:
  ChunkStore* const store_;
  const Router* const router_;
  const ViewBoard* const board_;
  std::unordered_map<uint32_t, uint64_t> lent_;  // the file that a slab was last lent as
};
}  // namespace terrace
