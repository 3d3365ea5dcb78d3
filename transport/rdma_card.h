// transport/rdma_card.h - what makes memory known to a network card: a port of an RDMA device, or a
// stand-in of a test. No verbs here.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/status.h"

namespace terrace {

/// Who may name the memory: operations of this side alone, or, by grants, those of peers as well.
enum class RdmaAccess : uint8_t { own, peers };

/// Memory that a card knows, until this is destroyed, by whichever thread.
class RdmaKeys {
 public:
  RdmaKeys(uint32_t for_us, uint32_t for_peers) : local(for_us), remote(for_peers) {}
  RdmaKeys(const RdmaKeys&) = delete;
  RdmaKeys& operator=(const RdmaKeys&) = delete;
  virtual ~RdmaKeys() = default;
  const uint32_t local;
  const uint32_t remote;
};

class RdmaCard {
 public:
  /// Thread-safe; takes as long as the card does (0.6 s per GiB with a software device).
  /// kResourceExhausted: names the memlock limit, when that is what was hit.
  virtual StatusOr<std::unique_ptr<RdmaKeys>> learn(std::span<std::byte> memory,
                                                    RdmaAccess access) const = 0;
  /// As learn(), of memory that another device's driver exported as `dmabuf`: bytes from `offset`
  /// of it answer to `addresses`, which need not be the host's. kUnimplemented: this card cannot.
  virtual StatusOr<std::unique_ptr<RdmaKeys>> learn_dmabuf(int dmabuf, uint64_t offset,
                                                           std::span<std::byte> addresses,
                                                           RdmaAccess access) const = 0;

 protected:
  ~RdmaCard() = default;
};
}  // namespace terrace
