// transport/shm_listener.h - the door of a shared-memory transport: accepts links, looks at who
// calls, and reads their hello and nothing else. Thread-confined to the loop.
#pragma once
#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "transport/shm_peer.h"

namespace terrace {

class ShmListener final : public ShmLink::Owner {
 public:
  static constexpr size_t kStrangersMax = 1024;  // links without a session

  class Host {
   public:
    /// A hello with a secret that is known. Non-OK: there is no room for the session.
    virtual Status link_complete(const std::array<std::byte, 16>& secret,
                                 std::unique_ptr<ShmLink>* link) = 0;
    /// Call reap() later.
    virtual void schedule_reap() = 0;

   protected:
    ~Host() = default;
  };

  ShmListener(ShmShared* shared, Host* host) : shared_(shared), host_(host) {}
  ~ShmListener();

  /// As ShmTransport::listen().
  Status listen(const std::string& name,
                std::function<bool(std::span<const std::byte, 16>)> secret_known);
  void close();
  /// After close(): nothing is left.
  bool drained() const { return !accept_.in_flight() && strangers_.empty(); }
  /// Hands over links whose hello was right, frees those that are through.
  void reap();
  /// Turns away who takes too long.
  void tick();

 private:
  struct Stranger {
    std::unique_ptr<ShmLink> link;
    Nanos since{0};
    bool closing = false;
    bool known = false;  // its secret
    std::array<std::byte, 16> secret{};
  };
  Status frame_arrived(ShmLink* link, const FrameHeader& header,
                       std::span<const std::byte> body) override;
  void connected(ShmLink*) override {}
  void failed(ShmLink* link, CloseReason reason, Status why) override;
  void closed(ShmLink* link) override;

  void on_accepted(int32_t result);
  void arm_accept() { shared_->loop->accept(fd_.get(), &accept_); }
  Status check_user(const ShmLink& link) const;
  Stranger* find(const ShmLink* link);
  void turn_away(Stranger* stranger, CloseReason reason);

  ShmShared* const shared_;
  Host* const host_;
  Fd fd_;
  std::string path_;  // to be removed; empty: none
  std::function<bool(std::span<const std::byte, 16>)> secret_known_;
  bool closing_ = false;
  bool accept_paused_ = false;  // the kernel is out of something; the next tick tries again
  std::vector<Stranger> strangers_;
  MethodOp<ShmListener, &ShmListener::on_accepted> accept_{this};
};
}  // namespace terrace
