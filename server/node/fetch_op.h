// server/node/fetch_op.h - one fetch: open every object, stream the layers, tell how each key went.
#pragma once
#include <memory>
#include <vector>

#include "proto/data.pb.h"
#include "server/node/layer_send.h"
#include "server/node/session.h"

namespace terrace {

class FetchOp final : public Operation {
 public:
  /// kInvalidArgument (counts, key lengths, fragments, priority), kPermissionDenied (namespace not
  /// opened by this session).
  static StatusOr<std::unique_ptr<FetchOp>> create(NodeContext* context, Session* session,
                                                   uint64_t tag,
                                                   const proto::FetchRequest& request);
  ~FetchOp() override;
  void start() override;
  void cancel(StatusCode why) override;

 private:
  struct Opening final : Op {
    Opening(FetchOp* o, uint32_t i) : owner(o), item(i) {}
    void done(Status result) override { owner->opened(item, result.code()); }
    FetchOp* const owner;
    const uint32_t item;
  };
  struct Sent final : Op {
    explicit Sent(FetchOp* o) : owner(o) {}
    void done(Status) override { owner->sent(); }
    FetchOp* const owner;
  };
  FetchOp(NodeContext* context, Session* session, Lane lane, uint64_t tag);
  void open_more();
  void opened(uint32_t item, StatusCode code);
  void cancel_opening(StatusCode why);
  void send_when_opened();
  void sent();

  NamespaceId ns_{};
  bool lease_lost_ = false;
  uint32_t deadline_ms_ = 0;
  std::vector<std::unique_ptr<LayerSend::Item>> items_;
  std::vector<std::unique_ptr<Opening>> openings_;
  uint32_t opening_next_ = 0;
  uint32_t opening_ = 0;
  bool late_ = false;
  Timer patience_;  // with the shared tier: what is here by then need not wait for the rest
  std::unique_ptr<LayerSend> send_;
  Sent sent_;
  StatusCode cancelled_ = StatusCode::kOk;
};
}  // namespace terrace
