// client/fetch_op.h - one fetch: asks, lets the node write only where the request said, checks
// every delivery where it landed, and tells how many layers are ready. Loop thread once submitted.
#pragma once
#include <array>
#include <memory>

#include "client/client_op.h"
#include "client/delivery_check.h"
#include "proto/data.pb.h"

namespace terrace {

class ClientFetch final : public ClientOp {
 public:
  struct Parts {
    std::unique_ptr<proto::FetchRequest> request;  // items only
    std::unique_ptr<DeliveryCheck> check;
    RegionUses memory;
    LeaseId lease;
    bool verify;
  };
  explicit ClientFetch(Parts parts) : parts_(std::move(parts)) {}

  void on_message(uint32_t sub, const Message& message) override;
  bool accept_write(const IncomingWrite& write, std::vector<uint32_t>* crc_runs) override;
  void on_write(const IncomingWrite& write) override;

 private:
  Status on_start(uint32_t ns) override;
  void fill(const Status& why, Completion* completion) override;
  void release_memory() override { parts_.memory.release(); }
  void refuse(Status why);
  void finish_when_whole();
  Status not_counted() const;
  void tell_layers();
  StatusCode code_of(size_t item, const Status& why) const;

  Parts parts_;
  uint64_t tag_ = 0;
  uint64_t frames_accepted_ = 0;
  uint64_t frames_landed_ = 0;
  uint32_t layers_told_ = 0;
  bool refused_ = false;
  bool replied_ = false;
  proto::FetchReply reply_;
};
}  // namespace terrace
