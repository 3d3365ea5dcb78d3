// server/node/list_op.h - lists objects of a namespace in key order, with the raw keys that their
// headers hold.
#pragma once
#include <memory>
#include <vector>

#include "proto/data.pb.h"
#include "server/node/session.h"

namespace terrace {

class ListOp final : public Operation {
 public:
  static constexpr uint32_t kPerSessionMax = 8;  // at once: each looks through the whole index
  ~ListOp() override;
  /// kInvalidArgument (cursor, limit), kPermissionDenied (namespace), kResourceExhausted
  /// (kPerSessionMax).
  static StatusOr<std::unique_ptr<ListOp>> create(NodeContext* context, Session* session,
                                                  uint64_t tag, const proto::ListRequest& request);
  void start() override;
  void cancel(StatusCode why) override { cancelled_ = why; }

 private:
  struct Opened final : Op {
    explicit Opened(ListOp* o) : owner(o) {}
    void done(Status result) override { owner->opened(result.ok()); }
    ListOp* const owner;
  };
  ListOp(NodeContext* context, Session* session, uint64_t tag);
  /// Looks for the objects, a step whenever its turn comes; then opens them one by one.
  void wait_for_turn();
  void scan();
  void next();
  void scan_behind();
  void opened(bool ok);

  NamespaceId ns_{};
  ChunkStore::ListScan scan_;
  size_t at_ = 0;
  std::unique_ptr<ChunkReader> reader_;  // of scan_.found[at_]
  Opened opened_;
  proto::ListReply body_;
  StatusCode cancelled_ = StatusCode::kOk;
};
}  // namespace terrace
