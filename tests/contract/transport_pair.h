// tests/contract/transport_pair.h - two transports that are each other's peer, each on a loop of
// its own that a test turns by hand; a side that is not turned is a frozen process.
// Single-threaded.
#pragma once
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "base/loop.h"
#include "base/prng.h"
#include "transport/transport.h"

namespace terrace {

/// Counts how often it is done.
struct CountingOp final : Op {
  void done(Status status) override {
    ++runs;
    result = std::move(status);
    if (then) then();
  }
  int runs = 0;
  Status result;
  std::function<void()> then;
};

/// One end: a loop, a handler that records, and the transport that the factory made.
class Side final : public TransportHandler {
 public:
  explicit Side(const Clock* clock) : loop(*Loop::create({}, clock)) {}

  void on_peer(PeerId id, std::span<const std::byte, 16>) override { peer = id; }
  void on_message(PeerId, const Message& message) override {
    messages.push_back({message.kind, message.tag, {message.body.begin(), message.body.end()}});
  }
  bool accept_write(PeerId, const IncomingWrite& write, std::vector<uint32_t>* crc_runs) override {
    // Runs that end in the middle of pieces; on_write() sees whether the sums are right.
    for (uint64_t at = 0; at < write.bytes; at += kCrcRunBytes) {
      crc_runs->push_back(static_cast<uint32_t>(std::min(kCrcRunBytes, write.bytes - at)));
    }
    return !refused.contains(write.tag);
  }
  void on_write(PeerId, const IncomingWrite& write) override {
    EXPECT_FALSE(refused.contains(write.tag));
    if (!write.run_crcs.empty()) expect_sums(write);
    ++writes[write.tag];
    write_bodies[write.tag].assign(write.body.begin(), write.body.end());
    immediates[write.tag] = write.immediate;
  }
  Status accept_read(PeerId, uint64_t tag, std::span<const RemoteSpan>) override {
    return refused.contains(tag) ? Status(StatusCode::kPermissionDenied) : ok_status();
  }
  void on_peer_closed(PeerId, const Status&) override {
    ++closes;
    if (on_close) on_close();
  }

  /// One piece to one piece; and a write of nothing, which the peer sees all the same.
  Status write(uint64_t tag, const RemoteSpan& to, const iovec& from, Op* op) {
    return transport->write(peer, {.tag = tag, .body = {}, .targets = {&to, 1}, .from = {&from, 1}},
                            op);
  }
  Status read(uint64_t tag, const RemoteSpan& from, const iovec& into, Op* op) {
    return transport->read(peer, {.tag = tag, .sources = {&from, 1}, .into = {&into, 1}}, op);
  }
  Status signal(uint64_t tag, Op* op) {
    return transport->write(peer, {.tag = tag, .body = {}, .targets = {}, .from = {}}, op);
  }

  /// What the transport says of the bytes is so of those that lie in our regions.
  void expect_sums(const IncomingWrite& write) {
    std::vector<std::byte> bytes;
    for (const RemoteSpan& span : write.targets) {
      const auto piece = regions.at(span.region).subspan(span.offset, span.length);
      bytes.insert(bytes.end(), piece.begin(), piece.end());
    }
    const size_t runs = (bytes.size() + kCrcRunBytes - 1) / kCrcRunBytes;
    ASSERT_EQ(write.run_crcs.size(), runs);
    for (size_t i = 0; i < runs; ++i) {
      const auto rest = std::span(bytes).subspan(i * kCrcRunBytes);
      EXPECT_EQ(write.run_crcs[i], crc32c(rest.first(std::min(kCrcRunBytes, rest.size()))));
    }
    ++summed;
  }
  /// Registers, and remembers where.
  StatusOr<RegionId> register_region(std::span<std::byte> memory) {
    StatusOr<RegionId> region = transport->register_region(memory);
    if (region.ok()) regions[*region] = memory;
    return region;
  }

  static constexpr uint64_t kCrcRunBytes = 40'000;
  struct Got {
    uint16_t kind;
    uint64_t tag;
    std::vector<std::byte> body;
  };
  std::unique_ptr<Loop> loop;
  std::unique_ptr<Transport> inner;  // of a set
  std::unique_ptr<Transport> transport;
  PeerId peer{};
  std::vector<Got> messages;
  std::set<uint64_t> refused;  // tags
  std::map<uint64_t, int> writes;
  std::map<uint64_t, std::vector<std::byte>> write_bodies;
  std::map<uint64_t, uint32_t> immediates;
  std::map<RegionId, std::span<std::byte>> regions;
  uint64_t summed = 0;  // writes that came with their sums
  int closes = 0;
  std::function<void()> on_close;
};

/// What an implementation provides to be tested.
struct TransportFactory {
  std::string name;
  /// Sets up both transports and connects them, whichever side calls; the side that called knows
  /// its peer then. Queue bound: `send_queue_bytes_max`.
  std::function<void(Side* a, Side* b, uint32_t send_queue_bytes_max)> connect;
  /// Why it cannot be tested here; empty: it can.
  std::function<std::string()> unavailable = [] { return std::string(); };
};

inline void PrintTo(const TransportFactory& factory, std::ostream* out) {
  *out << factory.name;
}

class TransportContract : public testing::TestWithParam<TransportFactory> {
 protected:
  void SetUp() override {
    const std::string why = GetParam().unavailable();
    if (!why.empty()) GTEST_SKIP() << why;
  }
  void open(uint32_t send_queue_bytes_max = 64u << 20) {
    GetParam().connect(&a, &b, send_queue_bytes_max);
    ASSERT_TRUE(turn_until([this] { return a.peer != PeerId{} && b.peer != PeerId{}; }));
  }
  void TearDown() override {
    if (!a.transport) return;
    CountingOp closed_a;
    CountingOp closed_b;
    a.transport->close(&closed_a);
    b.transport->close(&closed_b);
    EXPECT_TRUE(turn_until([&] { return closed_a.runs == 1 && closed_b.runs == 1; }));
    a.transport.reset();
    b.transport.reset();
    a.inner.reset();
    b.inner.reset();
  }
  void turn() {
    a.loop->turn(Nanos(0));
    b.loop->turn(Nanos(0));
  }
  /// Bounded by time, because a loop without work turns very fast.
  bool turn_until(const std::function<bool()>& there) { return turn_sides(true, there); }
  bool turn_a_until(const std::function<bool()>& there) { return turn_sides(false, there); }
  void turn_random(Prng* prng, uint64_t turns_max) {
    for (uint64_t i = prng->below(turns_max); i > 0; --i) {
      (prng->chance(50) ? a : b).loop->turn(Nanos(0));
    }
  }
  bool turn_sides(bool both, const std::function<bool()>& there) {
    for (const Nanos end = clock.now() + seconds(20); clock.now() < end;) {
      if (there()) return true;
      a.loop->turn(microseconds(50));
      if (both) b.loop->turn(microseconds(50));
    }
    return there();
  }
  SystemClock clock;
  Side a{&clock};
  Side b{&clock};
};

inline std::vector<std::byte> random_bytes(Prng* prng, size_t count) {
  std::vector<std::byte> out(count);
  prng->fill(out);
  return out;
}

/// Cuts `bytes` bytes from `offset` of `region` into at most `pieces_max` spans.
inline std::vector<RemoteSpan> cut(Prng* prng, RegionId region, uint64_t offset, uint64_t bytes,
                                   size_t pieces_max) {
  std::vector<RemoteSpan> out;
  while (bytes > 0) {
    const uint64_t length = out.size() + 1 == pieces_max ? bytes : 1 + prng->below(bytes);
    out.push_back({region, offset, length});
    offset += length;
    bytes -= length;
  }
  return out;
}

inline std::vector<iovec> cut(Prng* prng, std::span<std::byte> memory, size_t pieces_max) {
  std::vector<iovec> out;
  for (const RemoteSpan& span : cut(prng, RegionId{}, 0, memory.size(), pieces_max)) {
    out.push_back({memory.data() + span.offset, span.length});
  }
  return out;
}
}  // namespace terrace
