// transport/transport.h - moves bytes between registered memory here and there, and small messages.
// Knows nothing of chunks. Implementations: tcp, rdma, and transport_set.h for several; all pass
// tests/contract/transport_contract.
//
// One instance per loop; every method and every callback runs on that loop's thread and never
// blocks. A call that returns non-OK was refused and its Op is untouched; OK means the Op is done
// exactly once, later. Memory given to an operation is borrowed until its Op is done.
#pragma once
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/op.h"
#include "base/region.h"
#include "base/status.h"

namespace terrace {

enum class TransportKind : uint8_t { tcp = 1, shm = 2, rdma = 3 };
inline constexpr size_t kTransportKinds = 4;  // 0 is none
const char* name_of(TransportKind kind);

enum class PeerId : uint64_t {};  // never reused within a process, whichever the transport
PeerId make_peer_id(TransportKind kind);
TransportKind kind_of(PeerId peer);

/// A message as it arrived. `body` is valid during the callback only.
struct Message {
  uint16_t kind = 0;
  uint64_t tag = 0;
  std::span<const std::byte> body;
  /// Of one to send: somebody waits for it, or for its answer; for a while after it, data moves in
  /// smaller steps.
  bool urgent = false;
};

/// A write of the peer into our regions, as announced or as landed. Valid during the callback only.
struct IncomingWrite {
  uint64_t tag = 0;
  uint32_t immediate = 0;
  std::span<const RemoteSpan> targets;  // all inside our regions: checked before the callback
  std::span<const std::byte> body;      // what the peer's upper layer sent along
  uint64_t bytes = 0;
  /// As landed: the CRC32C of each run that accept_write() asked for. Empty when the bytes did not
  /// pass through this CPU (a socket, a network card): then who wants to know reads them again.
  std::span<const uint32_t> run_crcs;
};

/// What a transport tells the room above. The transport outlives no handler.
class TransportHandler {
 public:
  /// A peer finished its handshake (listening side). `secret` told it apart.
  virtual void on_peer(PeerId peer, std::span<const std::byte, 16> secret) = 0;
  virtual void on_message(PeerId peer, const Message& message) = 0;
  /// Before the first payload byte of a write is stored. False: the payload is read and dropped,
  /// and on_write is not called. This is what makes "no further write to your memory" true.
  /// `crc_runs` (empty) may be filled with lengths, in payload order, of runs whose CRC32C on_write
  /// wants; a transport that copies the payload itself computes them on the way.
  virtual bool accept_write(PeerId peer, const IncomingWrite& write,
                            std::vector<uint32_t>* crc_runs) = 0;
  /// All bytes of a write are in place. The transport touches them no more.
  virtual void on_write(PeerId peer, const IncomingWrite& write) = 0;
  /// Whether `peer` may read these spans of our regions for `tag` now; non-OK refuses the read with
  /// that code.
  virtual Status accept_read(PeerId peer, uint64_t tag, std::span<const RemoteSpan> spans) = 0;
  /// The last callback about this peer; its operations were all done with kUnavailable before.
  virtual void on_peer_closed(PeerId peer, const Status& why) = 0;

 protected:
  ~TransportHandler() = default;
};

class Transport {
 public:
  virtual ~Transport() = default;

  /// `memory` must outlive the region. The region can be named at once; what has to prepare memory
  /// (a network card) does so meanwhile, off the loop, and peers' operations on it wait for that.
  /// kResourceExhausted: too many regions.
  virtual StatusOr<RegionId> register_region(std::span<std::byte> memory) = 0;
  /// `op` is done when the region is prepared, or with why it cannot be: then it refuses peers, and
  /// is the caller's to unregister. kNotFound: no such region; kUnavailable: closed meanwhile.
  virtual void when_prepared(RegionId region, Op* op) = 0;
  /// kFailedPrecondition while an operation of either side uses it, or it is being prepared;
  /// kNotFound.
  virtual Status unregister_region(RegionId region) = 0;
  /// Whether unregister_region() would refuse it now for being used.
  virtual bool region_in_use(RegionId region) const = 0;
  /// Memory that many operations of this side will lie in (a slab, staging buffers), until
  /// forget_memory() with the same span; peers cannot name it. A hint: what has to prepare memory
  /// then does so once, and copies until it has. Each call has its forget_memory().
  virtual void expect_memory(std::span<std::byte> memory) = 0;
  /// No operation lies in it any more; it may be unmapped.
  virtual void forget_memory(std::span<std::byte> memory) = 0;

  /// Sends one message; messages to one peer arrive in order. `body` is copied.
  /// kUnavailable (peer gone), kInvalidArgument (over kBodyBytesMax), kResourceExhausted (the
  /// peer's send queue is full: it does not read).
  virtual Status send_message(PeerId to, const Message& message) = 0;
  /// Writes `from`, in order, into `targets` at the peer, in order (equal totals, at most
  /// kFramePayloadBytesMax), then shows the peer tag, immediate and body. Done when `from` is free
  /// again. Writes may arrive in any order relative to each other and to messages.
  struct Write {
    uint64_t tag = 0;
    uint32_t immediate = 0;
    std::span<const std::byte> body;      // copied
    std::span<const RemoteSpan> targets;  // copied
    std::span<const iovec> from;          // the array is copied, the memory borrowed
  };
  virtual Status write(PeerId to, const Write& write, Op* op) = 0;
  /// Reads `sources` of the peer, in order, into `into`, in order (equal totals, at most
  /// kFramePayloadBytesMax). Done when the bytes are in place. Errors: what the peer answered.
  struct Read {
    uint64_t tag = 0;
    std::span<const RemoteSpan> sources;  // copied
    std::span<const iovec> into;          // the array is copied, the memory borrowed
  };
  virtual Status read(PeerId from, const Read& read, Op* op) = 0;
  /// Asks that an operation started by write() or read() end early. It is still done once: OK when
  /// it was too late to stop, else kCancelled; either way its memory is then free.
  virtual void cancel(Op* op) = 0;
  /// Quiesces what the peer's writes with `tag` may still touch, then completes `op`: after it no
  /// byte of ours is written for that tag. accept_write() must refuse the tag from now on.
  virtual void quiesce(PeerId peer, uint64_t tag, Op* op) = 0;
  /// Bytes accepted by write() and not yet taken by the kernel: the sender's back-pressure.
  virtual uint64_t queued_bytes(PeerId peer) const = 0;
  /// Ends the peer: all its operations are done with kUnavailable, then on_peer_closed. Later.
  virtual void close_peer(PeerId peer, Status why) = 0;
  /// Stops listening and closes every peer; `op` is done when nothing is in flight. Once.
  virtual void close(Op* op) = 0;
};
}  // namespace terrace
