// server/node/fetch_op.h - one fetch: open every object, stream the layers, tell how each key went.
#pragma once
#include <memory>
#include <vector>

#include "proto/data.pb.h"
#include "server/node/layer_send.h"
#include "server/node/openings.h"
#include "server/node/session.h"

namespace terrace {

class FetchOp final : public Operation {
 public:
  /// kInvalidArgument (counts, key lengths, fragments, priority), kPermissionDenied (namespace not
  /// opened by this session).
  static StatusOr<std::unique_ptr<FetchOp>> create(NodeContext* context, Session* session,
                                                   uint64_t tag,
                                                   const proto::FetchRequest& request);
  void start() override;
  void cancel(StatusCode why) override;

 private:
  struct Sent final : Op {
    explicit Sent(FetchOp* o) : owner(o) {}
    void done(Status) override { owner->sent(); }
    FetchOp* const owner;
  };
  FetchOp(NodeContext* context, Session* session, Lane lane, uint64_t tag);
  void send();
  void sent();

  NamespaceId ns_{};
  bool lease_lost_ = false;
  uint32_t deadline_ms_ = 0;
  std::vector<std::unique_ptr<LayerSend::Item>> items_;
  Openings openings_;
  std::unique_ptr<LayerSend> send_;
  Sent sent_;
  StatusCode cancelled_ = StatusCode::kOk;
};
}  // namespace terrace
