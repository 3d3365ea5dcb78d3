#include "server/node/view_op.h"

#include "base/limits.h"
#include "server/node/device_lender.h"
#include "server/node/view_table.h"
#include "transport/shm_transport.h"

namespace terrace {
namespace {

// What a reply may have grown to before another object is added: the largest object still fits.
constexpr uint64_t kReplyBytesMax = kBodyBytesMax - 512 * kKiB;
}  // namespace

ViewOp::ViewOp(NodeContext* context, Session* session, uint64_t tag)
    : Operation(context, session, OpKind::view, Lane::load, tag),
      openings_(context, static_cast<uint64_t>(session->peer()) * kLanes) {}

StatusOr<std::unique_ptr<ViewOp>> ViewOp::create(NodeContext* context, Session* session,
                                                 uint64_t tag, const proto::ViewRequest& request) {
  const Namespace* ns = session->find_namespace(request.namespace_id());
  if (ns == nullptr) {
    return error(
        StatusCode::kPermissionDenied,
        "namespace " + std::to_string(request.namespace_id()) + " was not opened by this session");
  }
  if (context->views == nullptr || kind_of(session->peer()) != TransportKind::shm) {
    return error(StatusCode::kFailedPrecondition,
                 "views need a session over shared memory: this one is over " +
                     std::string(name_of(kind_of(session->peer()))));
  }
  TERRACE_ASSIGN_OR_RETURN(const auto keys, view_keys(request.keys(), kKeysPerRequestMax));
  if (keys.empty()) return error(StatusCode::kInvalidArgument, "a view of no keys");
  auto op = std::unique_ptr<ViewOp>(new ViewOp(context, session, tag));
  op->ns_ = ns->id;
  op->deadline_ms_ = request.deadline_ms();
  op->device_ = request.device();
  for (const ChunkKey& key : keys) {
    op->items_.push_back({key, std::make_unique<ChunkReader>(), StatusCode::kOk});
  }
  return op;
}

void ViewOp::start() {
  arm_deadline(deadline_ms_);
  std::vector<ChunkKey> keys;
  for (const Item& item : items_) keys.push_back(item.key);
  context_->store->touch(ns_, keys);
  std::vector<Openings::Item> wanted;
  for (Item& item : items_) wanted.push_back({item.key, item.reader.get(), &item.code});
  openings_.start(ns_, std::move(wanted), deadline_ms_, [this] { answer(); });
}

void ViewOp::cancel(StatusCode why) {
  if (cancelled_ != StatusCode::kOk || answered_) return;
  cancelled_ = why;
  openings_.cancel(why);
}

StatusOr<ViewOp::Hold> ViewOp::show_dram(Item* item, std::string* pieces) {
  std::shared_ptr<ChunkReader> reader = std::move(item->reader);
  std::vector<iovec> memory;
  for (uint32_t s = 0; s < reader->header().sections.size(); ++s) {
    memory.clear();
    // Piece by piece of a section, so that the reader knows where each section begins.
    const bool there = context_->store->resident(*reader, s, &memory);
    const auto lent = there ? context_->shm->lend(session_->peer(), memory) : std::nullopt;
    if (!lent.has_value()) return error(StatusCode::kFailedPrecondition, "not in dram: fetch it");
    *pieces += pack_pieces(*lent);
  }
  return Hold(std::move(reader));
}

StatusOr<ViewOp::Hold> ViewOp::show_device(Item* item, std::string* pieces,
                                           proto::ViewReply* reply) {
  TERRACE_ASSIGN_OR_RETURN(DeviceView view, context_->store->device_view(*item->reader));
  TERRACE_RETURN_IF_ERROR(context_->lender->lend(session_->peer(), view.loan));
  std::vector<ShmPiece> places;
  for (const DeviceView::Piece& piece : view.pieces) {
    places.push_back({view.loan->id, piece.offset, piece.bytes});
  }
  *pieces = pack_pieces(places);
  reply->mutable_device()->set_id(view.loan->id);
  reply->mutable_device()->set_bytes(view.loan->bytes);
  const auto& handle = view.loan->handle.bytes;
  reply->mutable_device()->set_handle(handle.data(), handle.size());
  return Hold(std::make_shared<const DeviceView>(std::move(view)));
}

Status ViewOp::show(Item* item, proto::ViewReply* reply) {
  // Of the item's reader, or, once that is what holds the bytes, of the table's.
  const ObjectHeader& header = item->reader->header();
  const uint64_t bytes = item->reader->layout().logical_bytes();
  if (reply_bytes_ > kReplyBytesMax) {
    return error(StatusCode::kResourceExhausted, "the reply is full: view fewer keys at once");
  }
  std::string pieces;
  TERRACE_ASSIGN_OR_RETURN(Hold hold,
                           device_ ? show_device(item, &pieces, reply) : show_dram(item, &pieces));
  TERRACE_ASSIGN_OR_RETURN(
      const ViewTable::Grant grant,
      context_->views->grant(
          session_->peer(),
          {.key = item->key, .hold = std::move(hold), .bytes = bytes, .on_device = device_}));
  const iovec word{const_cast<std::byte*>(grant.word), sizeof(uint64_t)};
  const auto board = context_->shm->lend(session_->peer(), {&word, 1});
  if (!board.has_value()) {
    context_->views->release(session_->peer(), grant.id);
    return error(StatusCode::kUnavailable, "the board of views cannot be lent");
  }
  proto::ViewReply::View* view = reply->add_views();
  view->set_id(grant.id);
  view->set_generation(grant.generation);
  view->set_word(pack_pieces(*board));
  reply_bytes_ += pieces.size() + 4 * header.unit_crcs.size() + 12 * header.sections.size() + 128;
  view->set_pieces(std::move(pieces));
  view->set_sections(pack_sections(header.sections));
  view->set_crcs(pack_words(header.unit_crcs));
  return ok_status();
}

void ViewOp::answer() {
  answered_ = true;
  proto::ViewReply body;
  std::string codes;
  for (Item& item : items_) {
    if (cancelled_ != StatusCode::kOk) item.code = cancelled_;
    if (item.code == StatusCode::kOk) {
      const Status shown = show(&item, &body);
      item.code = shown.code();
      if (refusal_.empty()) refusal_ = shown.message();
    }
    codes += static_cast<char>(item.code);
  }
  body.set_codes(codes);
  body.mutable_outcome()->set_code(static_cast<int32_t>(cancelled_));
  body.mutable_outcome()->set_message(refusal_);
  reply(MessageKind::view_reply, body);
  finished(cancelled_);
}
}  // namespace terrace
