// transport/rdma_device.h - one port of an RDMA device: its protection domain, one completion queue
// on the loop, and the buffers that messages arrive in. Thread-confined to the loop, but for what
// registers memory.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/loop.h"
#include "transport/rdma_card.h"
#include "transport/rdma_options.h"
#include "transport/rdma_wire.h"
#include "transport/verbs_handles.h"

namespace terrace {

class RdmaDevice final : public RdmaCard {
 public:
  class Sink {
   public:
    /// A send that asked to be told, or an immediate, of the queue pair that put `serial` into
    /// its requests; which may be gone.
    virtual void completed(uint32_t serial, const ibv_wc& completion) = 0;
    /// `frame` is valid during the call.
    virtual void frame_came(RdmaDevice* device, uint32_t qpn, std::span<const std::byte> frame) = 0;
    /// The port is down, or the device gone.
    virtual void port_lost(RdmaDevice* device, const Status& why) = 0;
    /// Everything that was found in this turn was told.
    virtual void round_ends() = 0;
    /// close() may have become drained().
    virtual void device_drained() = 0;

   protected:
    ~Sink() = default;
  };

  /// The ports that `options` names. kUnavailable: none, or a named one is not there or not active.
  static StatusOr<std::vector<std::unique_ptr<RdmaDevice>>> open_all(const RdmaOptions& options,
                                                                     Loop* loop, Sink* sink);
  ~RdmaDevice();

  const std::string& name() const { return name_; }
  ibv_pd* domain() const { return domain_.get(); }
  ibv_cq* completions() const { return cq_.get(); }
  ibv_srq* receives() const { return srq_.get(); }
  const ibv_device_attr& limits() const { return limits_; }
  /// How to reach this port; queue pairs are for the caller to fill in.
  RdmaPathEndpoint address() const;
  uint8_t port() const { return port_number_; }
  uint8_t gid_index() const { return gid_index_; }

  StatusOr<std::unique_ptr<RdmaKeys>> learn(std::span<std::byte> memory,
                                            RdmaAccess access) const override;
  StatusOr<std::unique_ptr<RdmaKeys>> learn_dmabuf(int dmabuf, uint64_t offset,
                                                   std::span<std::byte> addresses,
                                                   RdmaAccess access) const override;
  /// As learn(), of a few pages for the loop's own use: it waits.
  StatusOr<VerbsMemory> register_memory(std::span<std::byte> memory, int access) const;
  /// Room for `completions` more in the completion queue, and `frames` more buffers to receive
  /// into. kResourceExhausted: over what the device has; nothing was reserved.
  Status reserve(uint32_t completions, uint32_t frames);
  void release(uint32_t completions, uint32_t frames);

  /// Starts listening to the device.
  void start();
  void close();
  bool drained() const;

 private:
  class Watch;  // a descriptor of the device
  struct Chunk {
    AlignedBuffer memory;
    VerbsMemory registration;
  };

  RdmaDevice(const RdmaOptions& options, Loop* loop, Sink* sink);
  Status open(ibv_device* device, uint8_t port);
  Status choose_gid();
  Status add_chunk();
  void post_receive(uint32_t buffer);
  std::span<std::byte> buffer_at(uint32_t buffer);
  void channel_ready();
  void async_ready();
  void poll();
  size_t poll_some();
  void schedule_poll();
  size_t dispatch(const ibv_wc& completion);

  const RdmaOptions& options_;
  Loop* const loop_;
  Sink* const sink_;
  std::string name_;
  uint8_t port_number_ = 1;
  uint8_t gid_index_ = 0;
  uint8_t mtu_ = 1;
  ibv_gid gid_{};
  ibv_port_attr port_{};
  ibv_device_attr limits_{};
  VerbsContext context_;
  VerbsDomain domain_;
  VerbsChannel channel_;
  VerbsCompletionQueue cq_;
  VerbsReceiveQueue srq_;
  uint32_t cq_reserved_ = 0;
  uint32_t frames_wanted_ = 0;
  uint32_t frames_posted_ = 0;
  std::vector<Chunk> chunks_;
  std::vector<uint32_t> free_buffers_;
  std::unique_ptr<Watch> channel_watch_;
  std::unique_ptr<Watch> async_watch_;
  Nanos last_work_{0};
  bool poll_scheduled_ = false;
  bool closing_ = false;
};
}  // namespace terrace
