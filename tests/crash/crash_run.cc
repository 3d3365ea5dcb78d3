#include "tests/crash/crash_run.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "storage/slab_format.h"
#include "storage/tier_pass.h"
#include "tests/sim/store_world.h"

namespace terrace::testing {
namespace {

constexpr uint64_t kNumbers = 60;   // different objects
constexpr uint64_t kStepsMax = 90;  // of a life, before the cut

enum class Promise : uint8_t { none, remembered, kept, erased };

TestObject object_of(uint64_t number) {
  Prng prng(number + 99);
  std::vector<uint64_t> sizes(1 + prng.below(2));
  for (uint64_t& size : sizes) size = 1 + prng.below(prng.chance(15) ? 200'000 : 20'000);
  return TestObject(number, sizes);
}

/// Two namespaces of one tenant, and one on its own.
NamespaceId namespace_of(uint64_t number) {
  return NamespaceId{static_cast<uint32_t>(1 + number % 3)};
}

class CrashRun {
 public:
  explicit CrashRun(const CrashOptions& options)
      : options_(options), world_(options.seed, options.device_bytes), prng_(options.seed * 31) {
    world_.config.flush_before_acknowledge = options.flush;
    world_.metadata_options.sync = options.sync_rows;
    for (uint32_t i = 1; i < options.devices; ++i) world_.add_device(options.device_bytes);
    world_.config.dram_bytes = 2 * kMiB;
    world_.config.slab_bytes = kMiB;  // one for each tenant, when both put
    for (uint32_t i = 0; i < options.devices; ++i) {
      world_.device_at(i).discard_too_much(options.too_much);
    }
    if (!options.warm) return;
    world_.keeper = std::make_unique<SimKeeper>();
    world_.namespaces = {{NamespaceId{1}, DomainId{1}},
                         {NamespaceId{2}, DomainId{1}},
                         {NamespaceId{3}, DomainId{2}}};
  }

  CrashResult run() {
    for (uint64_t life = 0; life < options_.lives && result_.failure.empty(); ++life) {
      live(life);
    }
    return result_;
  }

 private:
  void live(uint64_t life) {
    // A start that is cut short, then one that is not.
    choose_trouble();
    resized_ = false;
    const bool cut_start = options_.warm && prng_.chance(30);
    if (cut_start) world_.disk.cut_after(prng_.below(30));
    Status started = world_.start();
    if (cut_start && !world_.disk.powered()) {
      world_.crash();
      ++result_.starts_cut;
      started = world_.start();
    } else if (cut_start) {
      world_.disk.power_on();  // it was over before the cut: there is none
    }
    if (!started.ok()) {
      result_.failure = "life " + std::to_string(life) + ": " + started.to_string();
      return;
    }
    for (const uint32_t ns : {1u, 2u}) world_.store->assign_domain(NamespaceId{ns}, DomainId{1});
    // Tenants that came back have rested: their slabs may change hands.
    if (options_.warm && prng_.chance(60)) world_.clock.advance(seconds(11));
    result_.taken_back += world_.store->metrics().warm_objects.get();
    check(life);
    if (prng_.chance(50)) take_all_slabs();
    const bool sudden = prng_.chance(90);  // else at rest, where what was begun has ended
    if (sudden) world_.disk.cut_after(prng_.below(kStepsMax));
    const uint64_t freeze_at = prng_.below(5);
    for (uint64_t done = 0, all = sudden ? 300 : prng_.below(10); done < all; ++done) {
      if (!world_.disk.powered()) break;
      if (options_.stale && done == freeze_at) world_.keeper->freeze();
      if (trouble_ != Trouble::none && done == trouble_at_) make_trouble();
      act();
    }
    if (!world_.disk.powered()) ++result_.cuts_under_way;
    constexpr auto kNvme = static_cast<size_t>(Tier::nvme);
    result_.failed_checks += world_.store->metrics().warm_failed_objects.get();
    forget_evicted();
    result_.slabs_replaced += world_.store->metrics().slabs_replaced.get();
    for (const DeviceStatus& device : world_.store->devices()) {
      result_.trimmed_bytes += device.trimmed_bytes;
    }
    result_.evictions += world_.store->metrics().evictions[kNvme].get();
    if (!options_.evicting && world_.store->metrics().evictions[kNvme].get() > 0) {
      result_.failure = "the device is too small for this test";
    }
    world_.crash();
    flip_bits();
    ++result_.cuts;
  }

  enum class Trouble : uint8_t { none, missing, hangs, fails };

  /// Of one device in this life: not there from its start, or dying in its middle.
  void choose_trouble() {
    world_.absent.clear();
    trouble_ = Trouble::none;
    impaired_ = false;
    if (!options_.impaired || prng_.chance(30)) return;
    ++result_.impaired_lives;
    troubled_ = static_cast<uint16_t>(prng_.below(options_.devices));
    trouble_ = static_cast<Trouble>(1 + prng_.below(3));
    trouble_at_ = prng_.below(8);
    if (trouble_ != Trouble::missing) return;
    world_.absent = {troubled_};
    impaired_ = true;
  }

  void make_trouble() {
    if (trouble_ == Trouble::missing) return;
    impaired_ = true;
    sim::SimDevice& device = world_.device_at(troubled_);
    if (trouble_ == Trouble::hangs) device.hang();
    if (trouble_ == Trouble::fails) device.fail(0, error(StatusCode::kUnavailable, "gone"), true);
  }

  /// What was acknowledged as `memory` is promised as long as nothing had to go.
  void forget_evicted() {
    if (!something_went() && options_.flips == 0 && !options_.stale) return;
    for (auto& [number, promise] : promises_) {
      if (promise == Promise::remembered) promise = Promise::none;
    }
  }

  bool something_went() const {
    const StoreMetrics& metrics = world_.store->metrics();
    uint64_t gone = metrics.slabs_replaced.get() + metrics.quarantined_objects.get();
    for (const Counter& each : metrics.evictions) gone += each.get();
    return gone > 0 || resized_;
  }

  void flip_bits() {
    for (uint32_t i = 0; i < options_.flips && !world_.keeper->files.empty(); ++i) {
      const Fd& file = world_.keeper->files[prng_.below(world_.keeper->files.size())].file;
      // One in the header costs a slab, so few are; more hit the directory, most the data.
      const auto end = static_cast<uint64_t>(::lseek(file.get(), 0, SEEK_END));
      const uint64_t data = slab_data_offset(kMiB);
      const uint64_t at = prng_.chance(1)    ? prng_.below(4096)
                          : prng_.chance(10) ? 4096 + prng_.below(4096)
                                             : data + prng_.below(end - data);
      uint8_t byte = 0;
      if (::pread(file.get(), &byte, 1, static_cast<off_t>(at)) != 1) continue;
      byte = static_cast<uint8_t>(byte ^ 1U << prng_.below(8));
      EXPECT_EQ(::pwrite(file.get(), &byte, 1, static_cast<off_t>(at)), 1);
    }
  }

  /// Everything that was promised is there, and everything that is there is right.
  void check(uint64_t life) {
    for (auto& [number, promise] : promises_) {
      const Status got = driver_for(number).get(object_of(number));
      const std::string where = "life " + std::to_string(life) + " object " +
                                std::to_string(number) + ": " + got.to_string();
      if (got.code() == StatusCode::kInternal) {
        ++result_.wrong;
        result_.failure = where;
      }
      // A full tier begins to make room at once.
      if (promise == Promise::remembered && !got.ok() && !something_went()) {
        ++result_.lost;
        result_.failure = "not taken back: " + where;
      }
      // Its device is away: a miss for now, and a promise still.
      const bool away = impaired_ && promise == Promise::kept;
      if (away && !got.ok()) {
        away_.insert(number);
        continue;
      }
      if (got.ok() && away_.erase(number) > 0) ++result_.came_back;
      if (promise == Promise::kept && !got.ok() && !options_.evicting) {
        ++result_.lost;
        if (options_.flush && options_.sync_rows) result_.failure = "lost: " + where;
      }
      if (promise == Promise::erased && got.ok()) {
        ++result_.risen;
        if (options_.sync_rows && !options_.stale) result_.failure = "back again: " + where;
      }
      // What survived one cut survives the next; what was not promised may still come or go.
      if (!got.ok()) promise = Promise::none;
    }
  }

  StoreDriver& driver_for(uint64_t number) {
    world_.driver->ns = namespace_of(number);
    return *world_.driver;
  }

  /// Puts that are given up leave the tenant of namespace 1 with all slabs: the first put of the
  /// other one must take one over. A life is too short to come there by itself.
  void take_all_slabs() {
    world_.driver->ns = NamespaceId{1};
    std::array<ChunkWriter, 2> writers;
    std::array<Waiting, 2> opened;
    for (size_t i = 0; i < writers.size(); ++i) {
      const TestObject large(1000 + i, {900'000});
      const PutSpec spec = world_.driver->spec_of(large, Durability::memory);
      if (!world_.store->open_writer(spec, &writers[i], &opened[i]).ok()) return;
      if (!world_.driver->wait(&opened[i]).ok()) return;
    }
  }

  void act() {
    // Nobody waits for it; when one runs, this is refused.
    if (options_.trims && prng_.chance(40)) {
      (void)world_.store->trim(std::make_shared<TrimPass>());
    }
    if (options_.resizes && prng_.chance(20)) resize_dram();
    switch (prng_.below(8)) {
      case 0:
      case 1:
      case 2:
        return erase(prng_.below(kNumbers));
      case 3: {
        const uint64_t number = prng_.below(kNumbers);
        if (driver_for(number).get(object_of(number)).code() == StatusCode::kInternal) {
          ++result_.wrong;
          result_.failure = "wrong byte of object " + std::to_string(number);
        }
        return;
      }
      default:
        put_group();
    }
  }

  /// Mostly nobody waits for it; when one runs, this is refused. The next life has the slabs of the
  /// configuration again, so what only memory has may be gone with the others.
  void resize_dram() {
    const auto pass = std::make_shared<ResizePass>();
    pass->tier = Tier::dram;
    pass->target = (1 + prng_.below(4)) * kMiB;
    if (!world_.store->resize(pass).ok()) return;
    resized_ = true;
    if (prng_.chance(50)) world_.driver->until([&] { return pass->over; });
    if (pass->over) ++result_.resizes;
  }

  void erase(uint64_t number) {
    promises_[number] = Promise::none;  // from its start on the object may be gone
    const Status erased = driver_for(number).erase(object_of(number));
    if (erased.ok() && world_.disk.powered()) promises_[number] = Promise::erased;
  }

  struct Writing {
    explicit Writing(uint64_t n) : object(object_of(n)) {}
    TestObject object;
    Durability durability = Durability::memory;
    ChunkWriter writer;
    Waiting opened;
    Waiting committed;
    Waiting erased;  // of an erase that the put did not wait for
    bool started = false;
    bool committing = false;
    bool erasing = false;
  };

  /// One to four puts at once, so that their steps interleave.
  void put_group() {
    std::vector<std::unique_ptr<Writing>> group;
    const uint64_t count = 1 + prng_.below(4);
    for (uint64_t i = 0; i < count; ++i) {
      group.push_back(std::make_unique<Writing>(prng_.below(kNumbers)));
      Writing& w = *group.back();
      const StoreDriver& driver = driver_for(w.object.number);
      w.durability = prng_.chance(60) ? Durability::nvme : Durability::memory;
      // A put replaces what nobody can read now.
      if (impaired_ || promises_[w.object.number] == Promise::erased) {
        promises_[w.object.number] = Promise::none;
      }
      // Not when an earlier put of the group may be told of an object that this erase takes.
      const bool first = std::none_of(group.begin(), group.end() - 1, [&](const auto& other) {
        return other->object.number == w.object.number;
      });
      w.erasing =
          first && prng_.chance(25) && world_.store->erase(driver.ns, w.object.key, &w.erased).ok();
      if (w.erasing) promises_[w.object.number] = Promise::none;
      w.started =
          world_.store->open_writer(driver.spec_of(w.object, w.durability), &w.writer, &w.opened)
              .ok();
    }
    world_.driver->until([&] {
      bool over = true;
      for (const auto& w : group) {
        over = advance(*w) && (!w->erasing || w->erased.over) && over;
      }
      return over;
    });
  }

  /// The next step of a put, when it can be taken. True: it ended.
  bool advance(Writing& w) {
    if (!w.started) return true;
    if (!w.opened.over) return false;
    if (!w.opened.status.ok()) {
      if (w.opened.status.code() == StatusCode::kAlreadyExists) acknowledged(w);
      w.started = false;
      return true;
    }
    if (!w.committing) {
      w.committing = true;
      w.started = world_.driver->fill(&w.writer, w.object).ok() &&
                  world_.store->commit(&w.writer, &w.committed).ok();
      return !w.started;
    }
    if (!w.committed.over) return false;
    if (w.committed.status.ok()) acknowledged(w);
    w.started = false;
    return true;
  }

  void acknowledged(const Writing& w) {
    if (w.durability != Durability::nvme) {
      // One that nvme alone has may be lost with a row that was not synced.
      const NamespaceId ns = namespace_of(w.object.number);
      const auto info = world_.store->find(ns, w.object.key);
      const bool in_dram = info && (info->tiers & mask_of(Tier::dram)) != 0;
      Promise& promise = promises_[w.object.number];
      const bool told = options_.warm && world_.disk.powered();  // else nobody hears the dead
      if (told && in_dram && promise == Promise::none) promise = Promise::remembered;
      return;
    }
    promises_[w.object.number] = Promise::kept;
    ++result_.acknowledged;
  }

  const CrashOptions options_;
  StoreWorld world_;
  Prng prng_;
  std::map<uint64_t, Promise> promises_;
  Trouble trouble_ = Trouble::none;  // of this life
  uint16_t troubled_ = 0;
  uint64_t trouble_at_ = 0;
  bool impaired_ = false;    // a device is away
  bool resized_ = false;     // dram, in this life
  std::set<uint64_t> away_;  // objects that were promised and missed
  CrashResult result_;
};
}  // namespace

CrashResult run_lives(const CrashOptions& options) {
  return CrashRun(options).run();
}
}  // namespace terrace::testing
