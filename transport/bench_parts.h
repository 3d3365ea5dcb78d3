// transport/bench_parts.h - what the transports' own benchmarks measure with: a watch, a peer that
// takes everything, and the sizes. For programs; single-threaded.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/limits.h"
#include "base/loop.h"
#include "transport/transport.h"

namespace terrace {

inline constexpr size_t kObjectBytes = 32 * kMiB;
inline constexpr size_t kPieceBytes = kMiB;
inline constexpr std::array<std::byte, 16> kSecret{};

struct Figure {
  double gb_per_s = 0;
  double cpu_s_per_gb = 0;  // of this process
};

/// Runs from its construction.
class Stopwatch {
 public:
  Figure stop(uint64_t bytes) const {
    const double gb = static_cast<double>(bytes) / 1e9;
    const auto s = [](Nanos n) { return std::chrono::duration<double>(n).count(); };
    return {.gb_per_s = gb / s(clock_.now() - wall_),
            .cpu_s_per_gb = s(process_cpu_time() - cpu_) / gb};
  }

 private:
  SystemClock clock_;
  Nanos wall_ = clock_.now();
  Nanos cpu_ = process_cpu_time();
};

struct Flag final : Op {
  void done(Status status) override {
    result = std::move(status);
    finished = true;
  }
  Status result;
  bool finished = false;
};

/// Accepts every write and says nothing.
class Quiet : public TransportHandler {
 public:
  void on_peer(PeerId, std::span<const std::byte, 16>) override {}
  void on_message(PeerId, const Message&) override {}
  bool accept_write(PeerId, const IncomingWrite&, std::vector<uint32_t>*) override { return true; }
  void on_write(PeerId, const IncomingWrite&) override {}
  Status accept_read(PeerId, uint64_t, std::span<const RemoteSpan>) override {
    return StatusCode::kPermissionDenied;
  }
  void on_peer_closed(PeerId, const Status&) override {}
};

inline void close_and_wait(Loop* loop, Transport* transport) {
  Flag closed;
  transport->close(&closed);
  while (!closed.finished) loop->turn(milliseconds(10));
}

/// The upper one of the two in the middle when there are two; of at least one value.
inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}
}  // namespace terrace
