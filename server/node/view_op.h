// server/node/view_op.h - one view request: pins objects that lie in dram, and says where in the
// slabs that the client may map. Moves no byte.
#pragma once
#include <memory>
#include <vector>

#include "proto/data.pb.h"
#include "server/node/session.h"

namespace terrace {

class ViewOp final : public Operation {
 public:
  ~ViewOp() override;
  /// kPermissionDenied (namespace), kInvalidArgument (keys), kFailedPrecondition (the session is
  /// not over shared memory).
  static StatusOr<std::unique_ptr<ViewOp>> create(NodeContext* context, Session* session,
                                                  uint64_t tag, const proto::ViewRequest& request);
  void start() override;
  void cancel(StatusCode why) override;

 private:
  struct Opening final : Op {
    Opening(ViewOp* o, uint32_t i) : owner(o), index(i) {}
    void done(Status result) override { owner->opened(index, result.code()); }
    ViewOp* const owner;
    const uint32_t index;
  };
  struct Item {
    ChunkKey key;
    std::unique_ptr<ChunkReader> reader;
    StatusCode code = StatusCode::kOk;
  };
  ViewOp(NodeContext* context, Session* session, uint64_t tag);
  void open_more();
  void opened(uint32_t index, StatusCode code);
  void reply_when_opened();
  /// Adds the item's view to the reply.
  StatusCode show(Item* item, proto::ViewReply* reply);

  NamespaceId ns_{};
  uint32_t deadline_ms_ = 0;
  std::vector<Item> items_;
  std::vector<std::unique_ptr<Opening>> openings_;
  uint32_t opening_ = 0;  // in flight
  uint32_t next_ = 0;
  StatusCode cancelled_ = StatusCode::kOk;
  bool replied_ = false;
  uint64_t reply_bytes_ = 0;
  std::string refusal_;  // the first view that the table refused
};
}  // namespace terrace
