// server/node/erase_op.h - erases keys: invisible at once, answered when they cannot come back.
#pragma once
#include <memory>
#include <vector>

#include "proto/data.pb.h"
#include "server/node/session.h"

namespace terrace {

class EraseOp final : public Operation {
 public:
  /// kInvalidArgument (keys), kPermissionDenied (namespace).
  static StatusOr<std::unique_ptr<EraseOp>> create(NodeContext* context, Session* session,
                                                   uint64_t tag,
                                                   const proto::EraseRequest& request);
  void start() override;
  /// Erasing is quick and has no way back: it goes on.
  void cancel(StatusCode) override {}

 private:
  struct One final : Op {
    One(EraseOp* o, size_t i) : owner(o), index(i) {}
    void done(Status result) override { owner->one_done(index, result.code()); }
    EraseOp* const owner;
    const size_t index;
  };
  EraseOp(NodeContext* context, Session* session, uint64_t tag)
      : Operation(context, session, OpKind::erase, Lane::load, tag) {}
  void one_done(size_t index, StatusCode code);
  void finish();

  NamespaceId ns_{};
  std::vector<ChunkKey> keys_;
  std::string codes_;
  std::vector<std::unique_ptr<One>> ones_;
  size_t left_ = 0;
};
}  // namespace terrace
