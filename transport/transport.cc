#include "transport/transport.h"

#include <atomic>

namespace terrace {
namespace {

constexpr unsigned kKindShift = 56;
}  // namespace

const char* name_of(TransportKind kind) {
  switch (kind) {
    case TransportKind::tcp:
      return "tcp";
    case TransportKind::shm:
      return "shm";
    case TransportKind::rdma:
      return "rdma";
  }
  return "none";
}

PeerId make_peer_id(TransportKind kind) {
  static std::atomic<uint64_t> next{1};
  return PeerId{uint64_t{static_cast<uint8_t>(kind)} << kKindShift |
                next.fetch_add(1, std::memory_order_relaxed)};
}

TransportKind kind_of(PeerId peer) {
  return static_cast<TransportKind>(static_cast<uint64_t>(peer) >> kKindShift);
}
}  // namespace terrace
