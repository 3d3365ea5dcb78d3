#include "kernels/accelerator_contract.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

namespace terrace {
namespace {

using Piece = DeviceSlab::Piece;
constexpr uint64_t kMiBytes = uint64_t{1} << 20;
constexpr uint64_t kSlab = 16 * kMiBytes;
constexpr uint64_t kPage = 4096;

/// xorshift64*: Marsaglia 2003, Vigna 2016.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15 + 1) {}
  uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1D;
  }
  uint64_t below(uint64_t n) { return next() % n; }

 private:
  uint64_t state_;
};

/// Counts copies that ended and keeps the first error.
class Endings {
 public:
  DeviceSlab::Ended one() {
    started_ += 1;
    return [this](const DeviceResult& status) {
      const std::lock_guard lock(mutex_);
      ++ended_;
      if (!status.ok() && first_error_.empty()) first_error_ = status.message;
      changed_.notify_all();
    };
  }
  void refused() { started_ -= 1; }
  /// Empty: all ended, and well.
  std::string wait() {
    std::unique_lock lock(mutex_);
    const bool all =
        changed_.wait_for(lock, std::chrono::seconds(30), [this] { return ended_ == started_; });
    return all ? first_error_ : "copies did not end in 30 s";
  }
  uint64_t ended() {
    const std::lock_guard lock(mutex_);
    return ended_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t started_ = 0;
  uint64_t ended_ = 0;
  std::string first_error_;
};

/// Host memory of whole pages.
class Pages {
 public:
  explicit Pages(uint64_t bytes)
      : data_(static_cast<std::byte*>(std::aligned_alloc(kPage, bytes))), bytes_(bytes) {
    std::memset(data_, 0, bytes);
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() { std::free(data_); }
  std::span<std::byte> span() const { return {data_, bytes_}; }

 private:
  std::byte* const data_;
  const uint64_t bytes_;
};

std::string run(DeviceSlab* slab, bool in, const std::vector<Piece>& pieces) {
  Endings endings;
  const DeviceResult started =
      in ? slab->copy_in(pieces, endings.one()) : slab->copy_out(pieces, endings.one());
  if (!started.ok()) return started.message;
  return endings.wait();
}

class Suite {
 public:
  Suite(Accelerator* accelerator, const SeenElsewhere& seen_elsewhere)
      : accelerator_(accelerator), seen_elsewhere_(seen_elsewhere) {}
  std::vector<ContractResult> results() {
    if (!make("a slab of 16 MiB can be made", kSlab, &slab_)) return results_;
    starts_with_zeroes();
    bytes_come_back();
    refuses_what_is_outside();
    ends_what_was_started();
    keeps_slabs_apart();
    expects_host_memory();
    is_seen_elsewhere();
    refuses_too_much();
    return results_;
  }

 private:
  void say(const std::string& promise, bool held, const std::string& detail = {}) {
    results_.push_back({promise, held, held ? std::string() : detail});
  }
  bool make(const std::string& promise, uint64_t bytes, std::unique_ptr<DeviceSlab>* out) {
    const DeviceResult made = accelerator_->make_slab(bytes, out);
    const bool held = made.ok() && *out != nullptr && (*out)->size_bytes() == bytes;
    say(promise, held, made.message);
    return held;
  }

  void starts_with_zeroes() {
    const Pages host(kSlab);
    std::memset(host.span().data(), 0xEE, kSlab);
    const std::string error = run(slab_.get(), false, {{0, host.span().data(), kSlab}});
    const bool zero = std::all_of(host.span().begin(), host.span().end(),
                                  [](std::byte b) { return b == std::byte{0}; });
    say("a new slab is all zeroes", error.empty() && zero, error);
  }

  /// Pieces of all sizes at random places against a plain array, many copies at a time.
  void bytes_come_back() {
    Random random(3);
    const Pages model(kSlab), source(kSlab), target(kSlab);
    for (uint64_t round = 0; round < 40; ++round) {
      fill_from(round, source.span());
      Endings endings;
      std::string error;
      for (uint64_t copy = 0; copy < 16; ++copy) {
        std::vector<Piece> pieces;
        for (uint64_t i = 1 + random.below(8); i > 0; --i) {
          const uint64_t offset = random.below(kSlab);
          const uint64_t bytes = std::min(random.below(300'000), kSlab - offset);
          std::byte* const from = source.span().data() + random.below(kSlab - bytes + 1);
          pieces.push_back({offset, from, bytes});
          std::memcpy(model.span().data() + offset, from, bytes);  // the same order
        }
        const DeviceResult started = slab_->copy_in(pieces, endings.one());
        if (!started.ok()) return say("copies are taken", false, started.message);
      }
      error = endings.wait();
      if (error.empty()) {
        error = run(slab_.get(), false,
                    {{0, target.span().data(), kSlab / 2},
                     {kSlab / 2, target.span().data() + kSlab / 2, kSlab / 2}});
      }
      const bool same = std::ranges::equal(model.span(), target.span());
      if (error.empty() && same) continue;
      return say("what went in comes out", false,
                 error.empty() ? "differs in round " + std::to_string(round) : error);
    }
    say("what went in comes out, 640 copies in order against a plain array", true);
  }

  void refuses_what_is_outside() {
    const Pages host(kPage);
    const std::vector<Piece> wrong = {{kSlab, host.span().data(), 1},
                                      {kSlab - 100, host.span().data(), 101},
                                      {~uint64_t{0}, host.span().data(), 2},
                                      {1, host.span().data(), ~uint64_t{0}}};
    bool refused = true;
    bool words = true;
    Endings endings;
    for (const Piece& piece : wrong) {
      for (const bool in : {true, false}) {
        const std::vector<Piece> pieces = {{0, host.span().data(), 1}, piece};
        const DeviceResult status =
            in ? slab_->copy_in(pieces, endings.one()) : slab_->copy_out(pieces, endings.one());
        if (!status.ok()) endings.refused();
        refused = refused && status.code == 1;
        words = words && status.message.find("piece 1") != std::string::npos;
      }
    }
    say("a piece outside of the slab is refused", refused);
    say("... in words that name it", words);
    say("... and is never said to have ended", endings.ended() == 0);
    say("no pieces are a copy as well", run(slab_.get(), true, {}).empty());
  }

  void ends_what_was_started() {
    std::unique_ptr<DeviceSlab> slab;
    if (!make("a second slab can be made", kSlab, &slab)) return;
    const Pages host(kSlab);
    Endings endings;
    for (int i = 0; i < 50; ++i) {
      const std::vector<Piece> pieces = {{0, host.span().data(), kSlab}};
      if (!slab->copy_in(pieces, endings.one()).ok()) endings.refused();
    }
    slab.reset();
    say("a slab ends after its copies, each of which ends once", endings.ended() == 50,
        std::to_string(endings.ended()) + " of 50 had ended");
  }

  void keeps_slabs_apart() {
    std::unique_ptr<DeviceSlab> other;
    if (!make("slabs come and go", kSlab, &other)) return;
    const Pages mine(kSlab), theirs(kSlab), back(kSlab);
    fill_from(21, mine.span());
    fill_from(22, theirs.span());
    std::string error = run(slab_.get(), true, {{0, mine.span().data(), kSlab}});
    if (error.empty()) error = run(other.get(), true, {{0, theirs.span().data(), kSlab}});
    if (error.empty()) error = run(slab_.get(), false, {{0, back.span().data(), kSlab}});
    say("what goes into one slab is not in another",
        error.empty() && std::ranges::equal(mine.span(), back.span()), error);
  }

  void expects_host_memory() {
    const Pages host(kMiBytes), back(kMiBytes);
    const DeviceResult expected = accelerator_->expect_host(host.span());
    say("host memory can be expected", expected.ok(), expected.message);
    fill_from(31, host.span());
    std::string error = run(slab_.get(), true, {{kPage, host.span().data(), kMiBytes}});
    if (error.empty()) error = run(slab_.get(), false, {{kPage, back.span().data(), kMiBytes}});
    say("copies from it are right", error.empty() && std::ranges::equal(host.span(), back.span()),
        error);
    const DeviceResult forgotten = accelerator_->forget_host(host.span());
    say("it can be forgotten", forgotten.ok(), forgotten.message);
    const DeviceResult again = accelerator_->expect_host(host.span());
    say("... and expected again", again.ok(), again.message);
    (void)accelerator_->forget_host(host.span());
    say("forgetting what was never expected is fine", accelerator_->forget_host(back.span()).ok());
  }

  void is_seen_elsewhere() {
    const Pages host(kSlab);
    fill_from(41, host.span());
    const std::string error = run(slab_.get(), true, {{0, host.span().data(), kSlab}});
    DeviceSlabHandle handle;
    const DeviceResult named = slab_->handle(&handle);
    say("a slab has a handle", error.empty() && named.ok(), error + named.message);
    if (!named.ok()) return;
    say("another process opens it and sees every byte", seen_elsewhere_(handle, kSlab, 41));
    std::unique_ptr<OpenedSlab> opened;
    say("this process does not open its own",
        !accelerator_->open_slab(handle, kSlab, &opened).ok());
    say("a handle of nothing is refused", !accelerator_->open_slab({}, kSlab, &opened).ok());
  }

  void refuses_too_much() {
    std::unique_ptr<DeviceSlab> out;
    const DeviceResult huge = accelerator_->make_slab(uint64_t{1} << 60, &out);
    say("more memory than there is, is refused in words", !huge.ok() && !huge.message.empty());
    const Pages host(kPage);
    say("... and the others go on",
        run(slab_.get(), false, {{0, host.span().data(), kPage}}).empty());
  }

  Accelerator* const accelerator_;
  const SeenElsewhere& seen_elsewhere_;
  std::unique_ptr<DeviceSlab> slab_;
  std::vector<ContractResult> results_;
};
}  // namespace

void fill_from(uint64_t seed, std::span<std::byte> out) {
  Random random(seed);
  for (size_t at = 0; at < out.size(); at += sizeof(uint64_t)) {
    const uint64_t word = random.next();
    std::memcpy(out.data() + at, &word, std::min(sizeof word, out.size() - at));
  }
}

std::vector<ContractResult> check_accelerator(Accelerator* accelerator,
                                              const SeenElsewhere& seen_elsewhere) {
  return Suite(accelerator, seen_elsewhere).results();
}
}  // namespace terrace
