#include "client/view_reply.h"

#include <algorithm>
#include <string>

#include "base/limits.h"
#include "proto/message_kind.h"

namespace terrace {
namespace {

constexpr size_t kUnitsMax = kObjectBytesMax / kCrcUnitBytes + kSectionsMax;

Status malformed(const std::string& what) {
  return error(StatusCode::kInternal, "node's reply to a view: " + what);
}

/// Finds pieces in what the node lent, and keeps that mapped.
class Places {
 public:
  Places(const LentFile& lent, Views::Held* held) : lent_(lent), held_(*held) {}
  /// Of the object. Empty: no such file or device memory, or outside of it.
  std::span<const std::byte> find_bytes(const ShmPiece& piece) {
    if (held_.device == nullptr) return find(piece);
    if (piece.file != held_.device->loan()) return {};
    return held_.device->at(piece.offset, piece.length);
  }
  /// Empty: no such file, or outside of it.
  std::span<const std::byte> find(const ShmPiece& piece) {
    std::shared_ptr<const ShmMapping> mapping = lent_(piece.file);
    if (mapping == nullptr) return {};
    std::vector<std::shared_ptr<const ShmMapping>>& all = held_.mappings;
    if (std::find(all.begin(), all.end(), mapping) == all.end()) all.push_back(mapping);
    return mapping->at(piece.offset, piece.length);
  }

 private:
  const LentFile& lent_;
  Views::Held& held_;
};

/// The pieces follow each other section after section, and end where sections end.
Status read_sections(const proto::ViewReply::View& from, Places* places, Views::Held* held) {
  TERRACE_ASSIGN_OR_RETURN(const std::vector<SectionSpec> specs, unpack_sections(from.sections()));
  TERRACE_ASSIGN_OR_RETURN(held->crcs, unpack_words(from.crcs(), kUnitsMax));
  TERRACE_ASSIGN_OR_RETURN(const std::vector<ShmPiece> pieces, unpack_pieces(from.pieces()));
  size_t next = 0, units = 0;
  for (const SectionSpec& spec : specs) {
    ViewedSection section{spec, {}};
    for (uint64_t left = spec.bytes; left > 0;) {
      if (next == pieces.size() || pieces[next].length > left) {
        return malformed("pieces that do not make up its sections");
      }
      const std::span<const std::byte> bytes = places->find_bytes(pieces[next]);
      if (bytes.empty()) return malformed("bytes of no memory that it lent");
      section.pieces.push_back(bytes);
      left -= pieces[next++].length;
    }
    units += units_touched(0, spec.bytes);
    held->sections.push_back(std::move(section));
  }
  if (next != pieces.size() || units != held->crcs.size() || specs.empty()) {
    return malformed(std::to_string(held->crcs.size()) + " checksums for " + std::to_string(units) +
                     " units");
  }
  return ok_status();
}

}  // namespace

Status read_view(const proto::ViewReply::View& from, const LentFile& lent, Views::Held* held) {
  Places places(lent, held);
  TERRACE_ASSIGN_OR_RETURN(const std::vector<ShmPiece> word, unpack_pieces(from.word()));
  if (word.size() != 1 || word[0].length != sizeof(uint64_t) ||
      word[0].offset % sizeof(uint64_t) != 0) {
    return malformed("a word that is none");
  }
  const std::span<const std::byte> where = places.find(word[0]);
  if (where.empty()) return malformed("a word of no memory that it lent");
  held->word = where.data();
  held->generation = from.generation();
  held->node_id = from.id();
  return read_sections(from, &places, held);
}
}  // namespace terrace
