// server/node/view_op.h - one view request: pins objects that lie in dram, or in device memory, and
// says where in what the client may map. Moves no byte.
#pragma once
#include <memory>
#include <vector>

#include "proto/data.pb.h"
#include "server/node/openings.h"
#include "server/node/session.h"

namespace terrace {

class ViewOp final : public Operation {
 public:
  /// kPermissionDenied (namespace), kInvalidArgument (keys), kFailedPrecondition (the session is
  /// not over shared memory).
  static StatusOr<std::unique_ptr<ViewOp>> create(NodeContext* context, Session* session,
                                                  uint64_t tag, const proto::ViewRequest& request);
  void start() override;
  void cancel(StatusCode why) override;

 private:
  struct Item {
    ChunkKey key;
    std::unique_ptr<ChunkReader> reader;
    StatusCode code = StatusCode::kOk;
  };
  using Hold = std::shared_ptr<const void>;  // of the object's bytes, where they are
  ViewOp(NodeContext* context, Session* session, uint64_t tag);
  void answer();
  /// Adds the item's view to the reply.
  Status show(Item* item, proto::ViewReply* reply);
  /// Each packs where the bytes lie.
  StatusOr<Hold> show_dram(Item* item, std::string* pieces);
  StatusOr<Hold> show_device(Item* item, std::string* pieces, proto::ViewReply* reply);

  NamespaceId ns_{};
  uint32_t deadline_ms_ = 0;
  std::vector<Item> items_;
  Openings openings_;
  StatusCode cancelled_ = StatusCode::kOk;
  bool answered_ = false;
  uint64_t reply_bytes_ = 0;
  bool device_ = false;
  std::string refusal_;  // why the first key that is there has no view
};
}  // namespace terrace
