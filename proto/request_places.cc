#include "proto/request_places.h"

#include <string>

#include "proto/message_kind.h"

namespace terrace {
namespace {

Status over(const char* what, uint64_t max) {
  return error(StatusCode::kInvalidArgument,
               "more than " + std::to_string(max) + " " + what + " in one request");
}
}  // namespace

Status PlaceBudget::take(const FragmentMap& map) {
  const size_t fragments = map.fragments().size();
  const size_t blocks = map.blocks().size();
  const uint64_t pieces = uint64_t{blocks} * map.planes();
  const size_t runs = map.runs().size();
  if (fragments > fragments_) return over("fragments", kFragmentsPerRequestMax);
  if (blocks > blocks_) return over("block ids", kBlockIdsPerRequestMax);
  if (pieces > pieces_) return over("block ids times planes", kPagedPiecesPerRequestMax);
  if (runs > runs_) return over("runs of bytes with gaps between them", kFragmentsPerRequestMax);
  fragments_ -= fragments;
  runs_ -= runs;
  blocks_ -= blocks;
  pieces_ -= pieces;
  return ok_status();
}

StatusOr<RequestPlaces> RequestPlaces::create(std::string_view pool) {
  RequestPlaces places;
  TERRACE_ASSIGN_OR_RETURN(PagedPool planes, unpack_planes(pool, kSectionsMax));
  if (!planes.empty()) places.pool_ = std::make_shared<const PagedPool>(std::move(planes));
  return places;
}

StatusOr<FragmentMap> RequestPlaces::next(std::string_view fragments, std::string_view blocks) {
  if (!fragments.empty() && !blocks.empty()) {
    return error(StatusCode::kInvalidArgument, "an item with fragments and with block ids");
  }
  FragmentMap map;
  if (blocks.empty()) {
    TERRACE_ASSIGN_OR_RETURN(auto list, unpack_fragments(fragments, kFragmentsPerRequestMax));
    TERRACE_ASSIGN_OR_RETURN(map, FragmentMap::create(std::move(list)));
  } else {
    TERRACE_ASSIGN_OR_RETURN(auto ids, unpack_words(blocks, kBlockIdsPerRequestMax));
    TERRACE_ASSIGN_OR_RETURN(map, FragmentMap::create_paged(pool_, std::move(ids)));
  }
  TERRACE_RETURN_IF_ERROR(budget_.take(map));
  return map;
}
}  // namespace terrace
