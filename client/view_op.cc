// Views: one request, and a reply whose every place is checked against what the node has lent.
#include <algorithm>
#include <string>

#include "base/bytes.h"
#include "base/limits.h"
#include "client/operations.h"
#include "client/request_op.h"
#include "client/views.h"
#include "proto/data.pb.h"

namespace terrace {
namespace {

constexpr size_t kPieceBytes = 24;
constexpr size_t kUnitsMax = kObjectBytesMax / kCrcUnitBytes + kSectionsMax;

Status malformed(const std::string& what) {
  return error(StatusCode::kInternal, "node's reply to a view: " + what);
}

std::vector<ShmPiece> unpack_pieces(const std::string& packed) {
  std::vector<ShmPiece> pieces;
  ByteReader in(packed);
  for (size_t i = 0; i < packed.size() / kPieceBytes; ++i) {
    const uint64_t file = in.u64();
    const uint64_t offset = in.u64();
    pieces.push_back({file, offset, in.u64()});
  }
  return pieces;
}

/// Finds pieces in what the node lent, and keeps that mapped.
class Places {
 public:
  Places(Operations* operations, std::vector<std::shared_ptr<const ShmMapping>>* mappings)
      : operations_(operations), mappings_(mappings) {}
  /// Empty: no such file, or outside of it.
  std::span<const std::byte> find(const ShmPiece& piece) {
    std::shared_ptr<const ShmMapping> mapping = operations_->lent_file(piece.file);
    if (mapping == nullptr) return {};
    if (std::find(mappings_->begin(), mappings_->end(), mapping) == mappings_->end()) {
      mappings_->push_back(mapping);
    }
    return mapping->at(piece.offset, piece.length);
  }

 private:
  Operations* const operations_;
  std::vector<std::shared_ptr<const ShmMapping>>* const mappings_;
};

/// The pieces follow each other section after section, and end where sections end.
Status read_sections(const proto::ViewReply::View& from, Places* places, Views::Held* held) {
  TERRACE_ASSIGN_OR_RETURN(const std::vector<SectionSpec> specs, unpack_sections(from.sections()));
  TERRACE_ASSIGN_OR_RETURN(held->crcs, unpack_words(from.crcs(), kUnitsMax));
  const std::vector<ShmPiece> pieces = unpack_pieces(from.pieces());
  size_t next = 0, units = 0;
  for (const SectionSpec& spec : specs) {
    ViewedSection section{spec, {}};
    for (uint64_t left = spec.bytes; left > 0;) {
      if (next == pieces.size() || pieces[next].length > left) {
        return malformed("pieces that do not make up its sections");
      }
      const std::span<const std::byte> bytes = places->find(pieces[next]);
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

Status read_view(const proto::ViewReply::View& from, Operations* operations, Views::Held* held) {
  Places places(operations, &held->mappings);
  const std::vector<ShmPiece> word = unpack_pieces(from.word());
  if (word.size() != 1 || word[0].length != sizeof(uint64_t) ||
      word[0].offset % sizeof(uint64_t) != 0) {
    return malformed("a word that is none");
  }
  const std::span<const std::byte> where = places.find(word[0]);
  if (where.empty()) return malformed("a word of no memory that it lent");
  held->word = where.data();
  held->generation = from.generation();
  held->node_id = from.id();
  held->peer = operations->peer();
  return read_sections(from, &places, held);
}

Status read_views(const std::vector<ChunkKey>& keys, Operations* operations, const Message& message,
                  Completion* out) {
  proto::ViewReply reply;
  if (!reply.ParseFromArray(message.body.data(), static_cast<int>(message.body.size()))) {
    return malformed("does not parse");
  }
  const StatusCode outcome = status_code_of(reply.outcome().code());
  if (outcome != StatusCode::kOk) return error(outcome, "node: " + reply.outcome().message());
  if (reply.codes().size() != keys.size()) {
    return malformed(std::to_string(reply.codes().size()) + " codes for " +
                     std::to_string(keys.size()) + " keys");
  }
  int next = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    const StatusCode code = status_code_of(static_cast<unsigned char>(reply.codes()[i]));
    out->key_codes.push_back(code);
    out->views.emplace_back();
    if (code == StatusCode::kOk) {
      if (next == reply.views_size()) return malformed("fewer views than it says");
      Views::Held held;
      held.key = keys[i];
      TERRACE_RETURN_IF_ERROR(read_view(reply.views(next++), operations, &held));
      out->views.back().sections = held.sections;
      for (const ViewedSection& section : held.sections) out->bytes += section.spec.bytes;
      out->views.back().id = operations->views()->add(std::move(held));
    } else {
      if (code == StatusCode::kNotFound) operations->counters()->misses.add();
      const std::string said = reply.outcome().message();
      out->status.update(error(code, "key " + std::to_string(i) + " of " +
                                         std::to_string(keys.size()) + ": " + name_of(code) +
                                         (said.empty() ? "" : ": " + said)));
    }
  }
  return ok_status();
}
}  // namespace

std::unique_ptr<ClientOp> make_view(std::span<const ChunkKey> keys) {
  auto request = std::make_shared<proto::ViewRequest>();
  request->set_keys(pack_keys(keys));
  RequestOp::Parts parts;
  parts.request_kind = MessageKind::view_request;
  parts.reply_kind = MessageKind::view_reply;
  parts.request = [request](uint32_t ns) -> const google::protobuf::MessageLite& {
    request->set_namespace_id(ns);
    return *request;
  };
  const std::vector<ChunkKey> copies(keys.begin(), keys.end());
  parts.read = [copies](Operations* operations, const Message& message, Completion* out) {
    const Status read = read_views(copies, operations, message, out);
    // A reply that is half right is not right: what was shown of it goes back.
    if (!read.ok()) operations->release_views(out->views);
    if (!read.ok()) *out = Completion();
    return read;
  };
  parts.give_up = [count = keys.size()](StatusCode code, Completion* out) {
    out->key_codes.assign(count, code);
    out->views.resize(count);
  };
  return std::make_unique<RequestOp>(std::move(parts));
}

std::vector<uint64_t> view_ids_of(const Message& message) {
  proto::ViewReply reply;
  std::vector<uint64_t> ids;
  if (!reply.ParseFromArray(message.body.data(), static_cast<int>(message.body.size()))) return ids;
  for (const proto::ViewReply::View& view : reply.views()) ids.push_back(view.id());
  return ids;
}
}  // namespace terrace
