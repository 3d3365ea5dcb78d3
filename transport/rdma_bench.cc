// transport/rdma_bench.cc - how fast the RDMA transport writes 1 MiB pieces of registered memory,
// beside ib_write_bw (perftest) with the same size on the same port, in pairs. ib_write_bw has no
// event mode for writes, so it polls; we sleep on the completion channel.
// Usage: rdma_bench [--device NAME] [--gid N] [--runs N] [--mib N] [--window N]
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "base/buffer.h"
#include "base/limits.h"
#include "transport/bench_parts.h"
#include "transport/rdma_transport.h"

namespace terrace {
namespace {

struct Settings {
  std::string device = "rxe0";
  uint32_t gid = 1;
  uint32_t runs = 9;
  uint32_t mib = 512;    // per run
  uint32_t window = 16;  // writes in flight
};

RdmaOptions options_of(const Settings& settings) {
  RdmaOptions options;
  options.devices = {settings.device};
  options.gid_index = static_cast<int>(settings.gid);
  return options;
}

/// Receives into one registered object, on its own thread.
class Receiver final : public Quiet {
 public:
  Receiver(const Settings& settings, std::span<std::byte> memory, std::string offer)
      : settings_(settings), memory_(memory), offer_(std::move(offer)) {
    thread_ = std::thread([this] { run(); });
  }
  std::string answer() { return answer_.get_future().get(); }
  void join() { thread_.join(); }
  uint64_t landed() const { return landed_.load(); }
  void on_write(PeerId, const IncomingWrite& write) override { landed_ += write.bytes; }
  void on_peer_closed(PeerId, const Status&) override { gone_ = true; }

 private:
  void run() {
    SystemClock clock;
    const auto loop = Loop::create({}, &clock);
    TERRACE_CHECK(loop.ok());
    const auto transport = RdmaTransport::create(loop->get(), this, options_of(settings_));
    TERRACE_CHECK(transport.ok() && (*transport)->register_region(memory_).ok());
    auto answered = (*transport)->accept(kSecret, offer_);
    TERRACE_CHECK(answered.ok());
    answer_.set_value(answered->endpoint);
    while (!gone_) (*loop)->turn(milliseconds(10));
    TERRACE_CHECK((*transport)->metrics().bounced_bytes.get() == 0);
    close_and_wait(loop->get(), transport->get());
  }
  const Settings settings_;
  const std::span<std::byte> memory_;
  const std::string offer_;
  std::promise<std::string> answer_;
  std::atomic<uint64_t> landed_{0};
  bool gone_ = false;
  std::thread thread_;
};

class Sender final : public Quiet {
 public:
  Sender(const Settings& settings, std::span<std::byte> memory)
      : settings_(settings), memory_(memory), slots_(settings.window) {}
  /// How long the loop made queue pairs.
  double making_ms() const { return making_ms_; }
  /// From the first write to the last one's end.
  Figure run(std::span<std::byte> into) {
    SystemClock clock;
    const auto loop = Loop::create({}, &clock);
    TERRACE_CHECK(loop.ok());
    const auto transport = RdmaTransport::create(loop->get(), this, options_of(settings_));
    TERRACE_CHECK(transport.ok());
    transport_ = transport->get();
    transport_->expect_memory(memory_);
    while (transport_->metrics().registrations_flying.get() > 0) (*loop)->turn(milliseconds(10));
    const Nanos begin = clock.now();
    const auto offer = transport_->open(kSecret);
    TERRACE_CHECK(offer.ok());
    making_ms_ = static_cast<double>((clock.now() - begin).count()) / 1e6;
    Receiver receiver(settings_, into, offer->endpoint);
    Flag connected;
    peer_ = offer->peer;
    TERRACE_CHECK(
        transport_->establish(peer_, receiver.answer(), clock.now() + seconds(5), &connected).ok());
    while (!connected.finished) (*loop)->turn(milliseconds(10));
    TERRACE_CHECK(connected.result.ok());
    const Stopwatch watch;
    for (Slot& slot : slots_) {
      slot.sender = this;
      start(&slot);
    }
    while (done_ < settings_.mib) (*loop)->turn(milliseconds(10));
    const Figure out = watch.stop(uint64_t{settings_.mib} * kMiB);
    TERRACE_CHECK(transport_->metrics().bounced_bytes.get() == 0);
    while (receiver.landed() < settings_.mib * kMiB) (*loop)->turn(milliseconds(10));
    close_and_wait(loop->get(), transport_);
    receiver.join();
    return out;
  }

 private:
  struct Slot final : Op {
    void done(Status status) override {
      TERRACE_CHECK(status.ok());
      ++sender->done_;
      sender->start(this);
    }
    Sender* sender = nullptr;
  };
  void start(Slot* slot) {
    if (started_ == settings_.mib) return;
    const uint64_t offset = started_++ * kPieceBytes % kObjectBytes;
    const RemoteSpan target{RegionId{1}, offset, kPieceBytes};
    const iovec from{memory_.data() + offset, kPieceBytes};
    const std::array<std::byte, 100> body{};  // as long as a fetch's deliveries
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
  RdmaTransport* transport_ = nullptr;
  PeerId peer_{};
  double making_ms_ = 0;
  uint64_t started_ = 0;
  uint64_t done_ = 0;
};

double child_cpu() {
  rusage usage{};
  (void)::getrusage(RUSAGE_CHILDREN, &usage);
  const auto s = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return s(usage.ru_utime) + s(usage.ru_stime);
}

/// perftest's server takes its time to listen, and its clock sometimes fails: it then prints
/// nothing, zeros or inf, and is asked again.
Figure perftest(const Settings& settings) {
  const std::string tool = "ib_write_bw -d " + settings.device + " -x " +
                           std::to_string(settings.gid) + " -s 1048576 -F -n " +
                           std::to_string(settings.mib);
  const std::string command =
      tool + " >/dev/null 2>&1 & sleep 0.5; " + tool + " 127.0.0.1 2>/dev/null; wait";
  for (int attempt = 0; attempt < 5; ++attempt) {
    const double cpu = child_cpu();
    FILE* const out = ::popen(command.c_str(), "r");
    TERRACE_CHECK(out != nullptr);
    char line[256];
    double average = 0;
    while (std::fgets(line, sizeof(line), out) != nullptr) {
      uint64_t bytes = 0;
      uint64_t count = 0;
      double peak = 0;
      double found = 0;
      if (std::sscanf(line, " %lu %lu %lf %lf", &bytes, &count, &peak, &found) == 4 &&
          bytes == kPieceBytes) {
        average = found;
      }
    }
    (void)::pclose(out);
    const double gb = settings.mib * static_cast<double>(kMiB) / 1e9;
    if (average > 1 && average < 1e6) {
      return {.gb_per_s = average * static_cast<double>(kMiB) / 1e9,
              .cpu_s_per_gb = (child_cpu() - cpu) / gb};
    }
  }
  return {};
}

int run(const Settings& settings) {
  StatusOr<AlignedBuffer> from = AlignedBuffer::allocate(kObjectBytes);
  StatusOr<AlignedBuffer> into = AlignedBuffer::allocate(kObjectBytes);
  TERRACE_CHECK(from.ok() && into.ok());
  for (size_t i = 0; i < kObjectBytes; ++i) from->data()[i] = static_cast<std::byte>(i * 7 / 3);
  std::vector<double> ratios;
  std::vector<double> ours;
  std::vector<double> theirs;
  std::vector<double> cpu;
  for (uint32_t i = 0; i < settings.runs; ++i) {
    const Figure raw = perftest(settings);
    if (raw.gb_per_s == 0) {
      std::printf("ib_write_bw gives no figure: is perftest installed?\n");
      return 1;
    }
    std::memset(into->data(), 0, kObjectBytes);
    Sender sender(settings, from->span());
    const Figure rdma = sender.run(into->span());
    TERRACE_CHECK(std::memcmp(from->data(), into->data(), kObjectBytes) == 0);
    std::printf("run %u: %.3f GB/s of %.3f, %.2f CPU s/GB of %.2f, queue pairs made in %.2f ms\n",
                i + 1, rdma.gb_per_s, raw.gb_per_s, rdma.cpu_s_per_gb, raw.cpu_s_per_gb,
                sender.making_ms());
    std::fflush(stdout);
    ours.push_back(rdma.gb_per_s);
    theirs.push_back(raw.gb_per_s);
    ratios.push_back(rdma.gb_per_s / raw.gb_per_s);
    cpu.push_back(rdma.cpu_s_per_gb);
  }
  std::printf(
      "median of %u pairs: %.3f GB/s of %.3f (ratio %.2f, of pairs %.2f, bar 0.7), %.2f CPU s/GB, "
      "0 bytes bounced, every byte compared\n",
      settings.runs, median(ours), median(theirs), median(ours) / median(theirs), median(ratios),
      median(cpu));
  return median(ratios) >= 0.7 ? 0 : 1;
}

bool parse(int argc, char** argv, Settings* settings) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--device") {
      settings->device = argv[i + 1];
      continue;
    }
    uint32_t* value = name == "--gid"      ? &settings->gid
                      : name == "--runs"   ? &settings->runs
                      : name == "--mib"    ? &settings->mib
                      : name == "--window" ? &settings->window
                                           : nullptr;
    if (value == nullptr) return false;
    const char* end = argv[i + 1] + std::strlen(argv[i + 1]);
    if (std::from_chars(argv[i + 1], end, *value).ptr != end) return false;
  }
  return argc % 2 == 1 && settings->runs > 0 && settings->mib >= 32 && settings->window > 0;
}
}  // namespace
}  // namespace terrace

int main(int argc, char** argv) {
  terrace::Settings settings;
  if (!terrace::parse(argc, argv, &settings)) {
    std::fprintf(stderr,
                 "usage: rdma_bench [--device NAME] [--gid N] [--runs N] [--mib N] [--window N]\n");
    return 2;
  }
  return terrace::run(settings);
}
