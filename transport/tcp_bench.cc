// transport/tcp_bench.cc - how fast the TCP transport moves memory on this machine, beside plain
// blocking sockets with as many connections and the same buffers, interleaved in one process.
// Usage: tcp_bench [--connections N] [--runs N] [--mib TOTAL] [--window N] [--turn-kib N]
//                  [--buffer-kib N]
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "base/buffer.h"
#include "base/limits.h"
#include "transport/bench_parts.h"
#include "transport/tcp_address.h"
#include "transport/tcp_transport.h"

namespace terrace {
namespace {

struct Settings {
  uint32_t connections = 4;  // that carry data
  uint32_t runs = 5;
  uint32_t mib = 8192;  // per run
  uint32_t window = 8;  // writes in flight
  uint32_t turn_kib = 1024;
  uint32_t buffer_kib = 0;
};

constexpr uint16_t kFinished = 1;
constexpr uint16_t kPing = 2;

/// Receives into one registered object, on its own thread.
class Receiver final : public Quiet {
 public:
  Receiver(const Settings& settings, std::span<std::byte> memory)
      : memory_(memory), wanted_(uint64_t{settings.mib} * kMiB) {
    options_.turn_bytes_max = settings.turn_kib * 1024;
    options_.socket_buffer_bytes = settings.buffer_kib * 1024;
    thread_ = std::thread([this] { run(); });
    while (port_.load() == 0) std::this_thread::yield();
  }
  void join() { thread_.join(); }
  uint16_t port() const { return port_.load(); }
  /// After join().
  uint64_t receives() const { return receives_; }
  /// Round trips of a message beside the data, sorted. After join().
  std::vector<double> ping_us() const {
    std::vector<double> out = ping_us_;
    std::sort(out.begin(), out.end());
    return out;
  }

  void on_write(PeerId peer, const IncomingWrite& write) override {
    got_ += write.bytes;
    if (got_ == wanted_) {
      (void)transport_->send_message(peer, {.kind = kFinished, .tag = 0, .body = {}});
    } else if (!pinging_) {
      pinging_ = true;
      pinged_at_ = clock_.now();
      (void)transport_->send_message(peer, {.kind = kPing, .tag = 0, .body = {}});
    }
  }
  void on_message(PeerId, const Message&) override {
    pinging_ = false;
    ping_us_.push_back(
        std::chrono::duration<double, std::micro>(clock_.now() - pinged_at_).count());
  }
  void on_peer_closed(PeerId, const Status&) override { gone_ = true; }

 private:
  void run() {
    StatusOr<std::unique_ptr<Loop>> loop = Loop::create({}, &clock_);
    TERRACE_CHECK(loop.ok());
    TcpTransport transport(loop->get(), this, options_);
    transport_ = &transport;
    TERRACE_CHECK(transport.register_region(memory_).ok());  // region 1
    const StatusOr<uint16_t> port =
        transport.listen("127.0.0.1:0", [](std::span<const std::byte, 16>) { return true; });
    TERRACE_CHECK(port.ok());
    port_ = *port;
    while (!gone_) (*loop)->turn(seconds(1));
    receives_ = transport.metrics().receives.get();
    close_and_wait(loop->get(), &transport);
  }
  SystemClock clock_;
  TcpOptions options_;
  TcpTransport* transport_ = nullptr;
  bool pinging_ = false;
  Nanos pinged_at_{0};
  std::vector<double> ping_us_;
  const std::span<std::byte> memory_;
  const uint64_t wanted_;
  uint64_t got_ = 0;
  uint64_t receives_ = 0;
  bool gone_ = false;
  std::atomic<uint16_t> port_{0};
  std::thread thread_;
};

/// Keeps `window` writes of 1 MiB in flight.
class Sender final : public Quiet {
 public:
  Sender(const Settings& settings, std::span<std::byte> memory)
      : settings_(settings), memory_(memory), slots_(settings.window) {
    for (Slot& slot : slots_) slot.sender = this;
  }
  void on_message(PeerId peer, const Message& message) override {
    if (message.kind == kFinished) {
      confirmed_ = true;
    } else {
      (void)transport_->send_message(peer, message);
    }
  }

  Figure run(uint16_t port) {
    SystemClock clock;
    StatusOr<std::unique_ptr<Loop>> loop = Loop::create({}, &clock);
    TERRACE_CHECK(loop.ok());
    TcpOptions options;
    options.turn_bytes_max = settings_.turn_kib * 1024;
    options.socket_buffer_bytes = settings_.buffer_kib * 1024;
    TcpTransport transport(loop->get(), this, options);
    transport_ = &transport;
    Flag connected;
    const StatusOr<PeerId> peer =
        transport.connect("127.0.0.1:" + std::to_string(port), kSecret, settings_.connections + 1,
                          clock.now() + seconds(5), &connected);
    TERRACE_CHECK(peer.ok());
    while (!connected.finished) (*loop)->turn(milliseconds(10));
    TERRACE_CHECK(connected.result.ok());
    peer_ = *peer;
    const Stopwatch watch;
    for (Slot& slot : slots_) start(&slot);
    while (!confirmed_) (*loop)->turn(seconds(1));
    const Figure figure = watch.stop(uint64_t{settings_.mib} * kMiB);
    const TcpMetrics& m = transport.metrics();
    sends_ = m.sends.get();
    close_and_wait(loop->get(), &transport);
    return figure;
  }
  uint64_t sends() const { return sends_; }

 private:
  struct Slot final : Op {
    void done(Status status) override {
      TERRACE_CHECK(status.ok());
      sender->start(this);
    }
    Sender* sender = nullptr;
  };
  void start(Slot* slot) {
    if (started_ == settings_.mib) return;
    const uint64_t offset = started_++ * kPieceBytes % kObjectBytes;
    const RemoteSpan target{RegionId{1}, offset, kPieceBytes};
    const iovec from{memory_.data() + offset, kPieceBytes};
    std::array<std::byte, 100> body{};  // as long as a fetch's deliveries
    TERRACE_CHECK(transport_
                      ->write(peer_,
                              {.tag = 1,
                               .immediate = 0,
                               .body = body,
                               .targets = std::span(&target, 1),
                               .from = std::span(&from, 1)},
                              slot)
                      .ok());
  }
  const Settings settings_;
  const std::span<std::byte> memory_;
  std::vector<Slot> slots_;
  TcpTransport* transport_ = nullptr;
  PeerId peer_{};
  uint64_t started_ = 0;
  uint64_t sends_ = 0;
  bool confirmed_ = false;
};

/// The ceiling: a blocking thread at each end of each connection.
Figure raw_sockets(const Settings& settings, std::span<std::byte> from, std::span<std::byte> into) {
  const StatusOr<SocketAddress> any = parse_address("127.0.0.1:0");
  StatusOr<Fd> door = make_tcp_socket(*any);
  TERRACE_CHECK(::bind(door->get(), any->get(), any->length) == 0 &&
                ::listen(door->get(), 64) == 0);
  const StatusOr<SocketAddress> address =
      parse_address("127.0.0.1:" + std::to_string(*port_of(door->get())));
  std::vector<Fd> out;
  std::vector<Fd> in;
  const int one = 1;
  for (uint32_t i = 0; i < settings.connections; ++i) {
    out.push_back(*make_tcp_socket(*address));
    TERRACE_CHECK(::connect(out.back().get(), address->get(), address->length) == 0);
    in.emplace_back(::accept(door->get(), nullptr, nullptr));
    (void)::setsockopt(out.back().get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  }
  const uint64_t pieces = settings.mib / settings.connections;
  const auto at = [&](uint32_t connection, uint64_t piece) {
    return (piece * settings.connections + connection) * kPieceBytes % kObjectBytes;
  };
  const Stopwatch watch;
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < settings.connections; ++i) {
    threads.emplace_back([&, i] {
      for (uint64_t p = 0; p < pieces; ++p) {
        for (size_t done = 0; done < kPieceBytes;) {
          const ssize_t n =
              ::send(out[i].get(), from.data() + at(i, p) + done, kPieceBytes - done, MSG_NOSIGNAL);
          TERRACE_CHECK(n > 0);
          done += static_cast<size_t>(n);
        }
      }
    });
    threads.emplace_back([&, i] {
      for (uint64_t p = 0; p < pieces; ++p) {
        for (size_t done = 0; done < kPieceBytes;) {
          const ssize_t n =
              ::recv(in[i].get(), into.data() + at(i, p) + done, kPieceBytes - done, 0);
          TERRACE_CHECK(n > 0);
          done += static_cast<size_t>(n);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return watch.stop(pieces * settings.connections * kPieceBytes);
}

int run(const Settings& settings) {
  StatusOr<AlignedBuffer> from = AlignedBuffer::allocate(kObjectBytes);
  StatusOr<AlignedBuffer> into = AlignedBuffer::allocate(kObjectBytes);
  TERRACE_CHECK(from.ok() && into.ok());
  std::memset(from->data(), 7, kObjectBytes);
  std::vector<double> ours;
  std::vector<double> ceiling;
  std::vector<double> ours_cpu;
  std::vector<double> ceiling_cpu;
  std::vector<double> ratios;
  for (uint32_t i = 0; i < settings.runs; ++i) {
    const Figure raw = raw_sockets(settings, from->span(), into->span());
    std::memset(into->data(), 0, kObjectBytes);
    Receiver receiver(settings, into->span());
    Sender sender(settings, from->span());
    const Figure tcp = sender.run(receiver.port());
    receiver.join();
    TERRACE_CHECK(std::memcmp(from->data(), into->data(), kObjectBytes) == 0);
    std::printf(
        "run %u: %.2f GB/s of %.2f, %.3f CPU s/GB of %.3f, %.1f sends and %.1f receives per MiB\n",
        i + 1, tcp.gb_per_s, raw.gb_per_s, tcp.cpu_s_per_gb, raw.cpu_s_per_gb,
        static_cast<double>(sender.sends()) / settings.mib,
        static_cast<double>(receiver.receives()) / settings.mib);
    const std::vector<double> pings = receiver.ping_us();
    std::printf(
        "       messages beside it: %zu round trips, p50 %.0f us, p99 %.0f us, max %.0f us\n",
        pings.size(), pings[pings.size() / 2], pings[pings.size() * 99 / 100], pings.back());
    ours.push_back(tcp.gb_per_s);
    ceiling.push_back(raw.gb_per_s);
    ours_cpu.push_back(tcp.cpu_s_per_gb);
    ceiling_cpu.push_back(raw.cpu_s_per_gb);
    ratios.push_back(tcp.gb_per_s / raw.gb_per_s);
  }
  std::printf(
      "median: %.2f GB/s of %.2f (ratio %.3f, of pairs %.3f), %.3f CPU s/GB of %.3f (ratio %.3f)\n",
      median(ours), median(ceiling), median(ours) / median(ceiling), median(ratios),
      median(ours_cpu), median(ceiling_cpu), median(ours_cpu) / median(ceiling_cpu));
  return 0;
}

bool parse(int argc, char** argv, Settings* settings) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    uint32_t* value = name == "--connections"  ? &settings->connections
                      : name == "--runs"       ? &settings->runs
                      : name == "--mib"        ? &settings->mib
                      : name == "--window"     ? &settings->window
                      : name == "--turn-kib"   ? &settings->turn_kib
                      : name == "--buffer-kib" ? &settings->buffer_kib
                                               : nullptr;
    if (value == nullptr) return false;
    const char* end = argv[i + 1] + std::strlen(argv[i + 1]);
    if (std::from_chars(argv[i + 1], end, *value).ptr != end) return false;
  }
  return argc % 2 == 1 && settings->connections > 0 && settings->runs > 0;
}
}  // namespace
}  // namespace terrace

int main(int argc, char** argv) {
  terrace::Settings settings;
  if (!terrace::parse(argc, argv, &settings)) {
    std::fprintf(stderr,
                 "usage: tcp_bench [--connections N] [--runs N] [--mib N] [--window N] "
                 "[--turn-kib N] [--buffer-kib N]\n");
    return 2;
  }
  return terrace::run(settings);
}
