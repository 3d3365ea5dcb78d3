// server/node/generate_op.h - single flight over all nodes: waits until the chunk is there, or
// until this client is the one to compute it.
#pragma once
#include <memory>

#include "proto/data.pb.h"
#include "server/node/session.h"

namespace terrace {

class GenerateOp final : public Operation {
 public:
  /// kInvalidArgument (key, hold), kPermissionDenied (namespace not opened by this session),
  /// kResourceExhausted (kRightsPerSessionMax).
  static StatusOr<std::unique_ptr<GenerateOp>> create(NodeContext* context, Session* session,
                                                      uint64_t tag,
                                                      const proto::GenerateRequest& request);
  void start() override;
  void cancel(StatusCode why) override;

 private:
  struct Answered final : Op {
    explicit Answered(GenerateOp* o) : owner(o) {}
    void done(Status result) override { owner->answered(result); }
    GenerateOp* const owner;
  };
  GenerateOp(NodeContext* context, Session* session, uint64_t tag)
      // A store's lane: those who wait must not keep the node from answering fetches.
      : Operation(context, session, OpKind::generate, Lane::store, tag), answered_(this) {}
  void answered(const Status& result);

  NamespaceId ns_{};
  ChunkKey key_;
  uint32_t deadline_ms_ = 0;
  Nanos hold_max_{0};
  GenerationRight right_;
  Answered answered_;
};
}  // namespace terrace
