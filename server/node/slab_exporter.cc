#include "server/node/slab_exporter.h"

#include "server/node/router.h"

namespace terrace {
namespace {

constexpr unsigned kSlabBits = 16;
constexpr uint64_t kSlabsMax = uint64_t{1} << kSlabBits;
constexpr uint64_t kBoardFile = uint64_t{1} << 63;  // no slab's: epochs count from 0

/// An epoch names the memory that the slab had at a time; it never comes back.
uint64_t file_of(const SlabPlace& place) {
  return place.epoch << kSlabBits | place.slab;
}
}  // namespace

std::optional<ShmPiece> SlabExporter::locate(PeerId peer, std::span<const std::byte> memory) {
  const std::span<const std::byte> board = board_->memory();
  if (memory.data() >= board.data() && memory.data() < board.data() + board.size()) {
    return ShmPiece{kBoardFile, static_cast<uint64_t>(memory.data() - board.data()), memory.size()};
  }
  const std::optional<SlabPlace> first = store_->place_of(memory.data());
  const Session* const session = router_->session_of(peer);
  if (!first || session == nullptr || first->domain != session->domain()) return std::nullopt;
  const std::optional<SlabPlace> last = store_->place_of(&memory.back());
  if (!last || last->slab != first->slab || first->slab >= kSlabsMax) return std::nullopt;
  return ShmPiece{file_of(*first), first->offset, memory.size()};
}

StatusOr<ShmExporter::File> SlabExporter::open(uint64_t file) {
  if (file == kBoardFile) {
    TERRACE_ASSIGN_OR_RETURN(Fd descriptor, board_->descriptor());
    return File{std::move(descriptor), {0, ViewBoard::kBytes}};
  }
  const auto slab = static_cast<uint32_t>(file % kSlabsMax);
  TERRACE_ASSIGN_OR_RETURN(SlabDescriptor found, store_->export_slab(slab));
  if (found.epoch != file >> kSlabBits) {
    return error(StatusCode::kFailedPrecondition, "the slab has other memory now");
  }
  lent_[slab] = file;
  return File{std::move(found.fd), {found.file_offset, found.bytes}};
}

void SlabExporter::slab_goes(uint32_t slab, ShmTransport* transport) {
  const auto found = lent_.find(slab);
  if (found == lent_.end()) return;
  transport->retract(found->second);
  lent_.erase(found);
}
}  // namespace terrace
