// transport/rdma_memory.h - which memory the cards know, and the buffers for what they do not.
// A card takes long to learn memory, so workers do that, in slices, with all cards at once; the
// loop hears of the end. Meanwhile operations of this side are bounced, those of peers wait.
// Memory that nobody announced is never registered on the fly: it may be unmapped and mapped anew
// behind our back, and a kept registration would then move other bytes. Confined to the loop.
#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <tuple>
#include <vector>

#include "base/buffer.h"
#include "base/handle.h"
#include "base/limits.h"
#include "base/op.h"
#include "base/region.h"
#include "base/workers.h"
#include "transport/rdma_card.h"
#include "transport/rdma_options.h"
#include "transport/rdma_wire.h"

namespace terrace {

class RdmaMemory {
 public:
  static constexpr size_t kSliceBytes = kGiB;
  static constexpr size_t kThreadsMax = 8;
  /// Of expect(); what is over is bounced. Regions are bounded by their table.
  static constexpr size_t kExpectedMax = 4096;

  /// Registers the bounce buffers, at once. kResourceExhausted. `cards` and what `metrics` points
  /// to outlive it. `settled` is called whenever something that was being registered no longer is;
  /// not inside a call from outside.
  static StatusOr<std::unique_ptr<RdmaMemory>> create(const RdmaOptions& options, Loop* loop,
                                                      std::vector<const RdmaCard*> cards,
                                                      RdmaMetrics* metrics,
                                                      std::function<void()> settled);
  /// idle().
  ~RdmaMemory();

  /// For this side's operations and, by grants, for those of peers. The same memory again shares
  /// a registration that is known; never one that flies, which its owner may have given up with the
  /// memory, nor a dmabuf's, whose address says nothing of what lies there. With `dmabuf`, which is
  /// kept with the region: RdmaCard::learn_dmabuf().
  void add_region(RegionId region, std::span<std::byte> memory, Fd dmabuf = Fd(),
                  uint64_t offset = 0);
  /// Not while it is being registered. No card knows the memory afterwards, unless another region
  /// is the same.
  void remove_region(RegionId region);
  enum class State : uint8_t { flying, known, failed };
  State state(RegionId region) const;
  bool flying(RegionId region) const;
  /// `op` is done when the region is not flying any more: OK, or why the cards do not know it
  /// (kNotFound: it is none).
  void when_known(RegionId region, Op* op);
  /// For this side's operations only; one that cannot be registered is bounced. Each expect() has
  /// its forget(); after the last the cards let go of the memory in the background, which may be
  /// unmapped meanwhile: no operation names it.
  void expect(std::span<std::byte> memory);
  void forget(std::span<std::byte> memory);

  /// Nothing new is registered from now on, and what waits for its turn is given up.
  void close();
  bool idle() const { return workers_.idle(); }

  /// The part of `memory` from its start that one registration covers; empty when none does.
  struct Local {
    uint32_t key = 0;
    size_t bytes = 0;
  };
  Local find_local(size_t card, std::span<const std::byte> memory) const;
  /// Appends what a peer on `card` needs to reach `memory`, a part of `region`, which is known.
  void find_remote(size_t card, RegionId region, std::span<const std::byte> memory,
                   std::vector<RdmaGrantEntry>* entries) const;

  /// A registered buffer of at least `bytes` (at most 1 MiB); empty when all are in use.
  std::span<std::byte> take_bounce(size_t bytes);
  void give_back_bounce(std::span<std::byte> buffer);

 private:
  static constexpr size_t kSmallBytes = 16 * kKiB;
  struct Slice {
    std::unique_ptr<RdmaKeys> keys;
    Status result;
  };
  /// While it flies its slices belong to the workers, each to one job.
  struct Registration {
    std::span<std::byte> memory;
    RdmaAccess access = RdmaAccess::own;
    Fd dmabuf;  // none: `memory` is the host's
    uint64_t dmabuf_offset = 0;
    State state = State::flying;
    std::vector<std::vector<Slice>> slices;  // [card][slice]
    std::atomic<bool> unwanted{false};       // given up while it flies: what has not begun does not
    size_t jobs_left = 0;
    size_t users = 0;  // regions, or calls of expect()
    uint64_t serial = 0;
    Status failure;
    std::vector<Op*> waiting;
  };
  using Shared = std::shared_ptr<Registration>;
  using Key = std::tuple<uintptr_t, size_t, RdmaAccess, uint64_t>;  // address .. serial

  RdmaMemory(BufferPool large, BufferPool small, Loop* loop, std::vector<const RdmaCard*> cards,
             RdmaMetrics* metrics, std::function<void()> settled);
  static Key key_of(std::span<const std::byte> memory, RdmaAccess access, uint64_t serial) {
    return {reinterpret_cast<uintptr_t>(memory.data()), memory.size(), access, serial};
  }
  /// One of exactly this memory that may be shared; null.
  Shared find_shared(std::span<const std::byte> memory, RdmaAccess access) const;
  Status register_bounce(std::span<std::byte> memory);
  Shared acquire(std::span<std::byte> memory, RdmaAccess access, Fd dmabuf, uint64_t offset);
  void release(const Shared& registration);
  void launch(const Shared& registration);
  void learn(Registration* registration, size_t card, size_t slice) const;
  void landed(const Shared& registration);
  void drop_in_background(const Shared& registration);
  void count(const Registration& registration, bool added) const;

  Loop* const loop_;
  const std::vector<const RdmaCard*> cards_;
  RdmaMetrics* const metrics_;
  const std::function<void()> settled_;
  BufferPool large_;
  BufferPool small_;
  std::map<Key, Shared> registrations_;  // by address: of nearest starts, the longest is last
  std::map<RegionId, Shared> regions_;
  uint64_t next_serial_ = 0;
  size_t expected_ = 0;
  bool closing_ = false;
  Workers workers_;  // last: its threads use the rest
};
}  // namespace terrace
