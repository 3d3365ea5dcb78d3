// tests/sim/store_world.h - a whole store on simulated media: device, file system under RocksDB,
// clock and power. One object lives through many lives of the node. Used from one thread.
#pragma once
#include <gtest/gtest.h>

#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "storage/chunk_store.h"
#include "tests/sim/refusing_metadata.h"
#include "tests/sim/sim_accelerator.h"
#include "tests/sim/sim_device.h"
#include "tests/sim/sim_env.h"
#include "tests/sim/sim_keeper.h"
#include "tests/sim/store_driver.h"

namespace terrace::testing {

/// The wire between a store and its device. When the power goes, what is under way ends with
/// kUnavailable, so that the dead node's objects can be taken apart; nothing reaches the device.
class PowerLine final : public Device {
 public:
  PowerLine(Device* device, Loop* loop) : device_(device), loop_(loop) {}
  void read(uint64_t offset, std::span<std::byte> into, Op* op) override {
    if (Relay* relay = enter(op)) device_->read(offset, into, relay);
  }
  void write(uint64_t offset, std::span<const std::byte> from, Op* op) override {
    if (Relay* relay = enter(op)) device_->write(offset, from, relay);
  }
  void sync(Op* op) override {
    if (Relay* relay = enter(op)) device_->sync(relay);
  }
  void discard(uint64_t offset, uint64_t bytes, Op* op) override {
    if (Relay* relay = enter(op)) device_->discard(offset, bytes, relay);
  }
  void resize(uint64_t bytes, Op* op) override {
    if (Relay* relay = enter(op)) device_->resize(bytes, relay);
  }
  void cancel_resize() override { device_->cancel_resize(); }
  uint64_t size_bytes() const override { return device_->size_bytes(); }
  void expect_memory(std::span<std::byte> memory) override { device_->expect_memory(memory); }
  void forget_memory(std::span<std::byte> memory) override { device_->forget_memory(memory); }
  void on_released(Released released) override { device_->on_released(std::move(released)); }
  void cut() {
    if (std::exchange(cut_, true)) return;
    for (Relay& relay : relays_) {
      if (Op* const op = std::exchange(relay.op, nullptr)) loop_->defer(op, gone());
    }
  }

 private:
  struct Relay final : Op {
    Op* op = nullptr;
    std::list<Relay>* home = nullptr;
    std::list<Relay>::iterator self;
    void done(Status result) override {
      Op* const outer = std::exchange(op, nullptr);
      home->erase(self);  // this is gone now
      if (outer != nullptr) outer->done(std::move(result));
    }
  };
  static Status gone() { return error(StatusCode::kUnavailable, "no power"); }
  Relay* enter(Op* op) {
    if (cut_) {
      loop_->defer(op, gone());
      return nullptr;
    }
    Relay& relay = relays_.emplace_back();
    relay.op = op;
    relay.home = &relays_;
    relay.self = std::prev(relays_.end());
    return &relay;
  }
  Device* const device_;
  Loop* const loop_;
  bool cut_ = false;
  std::list<Relay> relays_;
};

class StoreWorld {
 public:
  static constexpr const char* kMetadataPath = "/world/index";

  explicit StoreWorld(uint64_t seed, uint64_t device_bytes = 48 * kMiB)
      : loop(*Loop::create({.ring_entries = 64}, &clock)),
        disk(seed),
        device(&disk, device_bytes, loop.get(), seconds(5)),
        env(&disk) {
    EXPECT_TRUE(env.files().make_directory("/world").ok());
    config.data_directory = "/world";
    config.uses_period = seconds(0);            // its file would be a real one
    config.uses_patience = seconds(1'000'000);  // this clock outruns a real disk
    config.dram_bytes = 4 * kMiB;
    config.slab_bytes = 64 * kMiB;
    config.populate_memory = false;
    config.huge_pages = false;
    config.staging_bytes = 4 * kMiB;
    config.scrub_period = seconds(0);
    config.device_timeout = seconds(5);
    metadata_options.path = kMetadataPath;
    metadata_options.env = env.env();
    metadata_options.cache_bytes = kMiB;
    metadata_options.write_buffer_bytes = kMiB;
  }
  ~StoreWorld() {
    if (store != nullptr) stop();
  }

  /// One more device of the tier, at the next start.
  sim::SimDevice& add_device(uint64_t bytes = 48 * kMiB) {
    others.push_back(std::make_unique<sim::SimDevice>(&disk, bytes, loop.get(), seconds(5)));
    return *others.back();
  }
  /// The device of a place.
  sim::SimDevice& device_at(size_t place) { return place == 0 ? device : *others[place - 1]; }
  /// The devices for a store that starts, on a power line each; `absent` ones are missing.
  std::vector<NvmeDevice> plug_in() {
    lines.clear();
    std::vector<NvmeDevice> all;
    for (uint16_t place = 0; place <= others.size(); ++place) {
      NvmeDevice one;
      one.place = place;
      one.path = "/world/device" + std::to_string(place);
      if (!absent.contains(place)) {
        lines.push_back(std::make_unique<PowerLine>(&device_at(place), loop.get()));
        one.device = lines.back().get();
      }
      all.push_back(std::move(one));
    }
    return all;
  }

  /// The node starts. A store that cannot start is an error of the test.
  Status start() {
    StatusOr<std::unique_ptr<MetadataStore>> opened =
        MetadataStore::open(metadata_options, loop.get());
    if (!opened.ok()) return opened.status();
    metadata = refusal == nullptr
                   ? std::move(*opened)
                   : std::make_unique<RefusingMetadata>(std::move(**opened), refusal);
    SlabKeeping keeping;
    keeping.owner = owner;
    keeping.namespaces = namespaces;
    if (keeper != nullptr) {
      keeping.keeper = keeper.get();
      keeping.files = keeper->take();
    }
    StatusOr<std::unique_ptr<ChunkStore>> recovered = ChunkStore::open(
        config, loop.get(), plug_in(), metadata.get(), nullptr, std::move(keeping), accelerator);
    if (!recovered.ok()) {
      metadata.reset();
      return recovered.status();
    }
    store = std::move(*recovered);
    driver = std::make_unique<StoreDriver>(store.get(), [this] { return turn(); });
    return ok_status();
  }
  /// The node ends in good order.
  void stop() {
    EXPECT_EQ(driver->close().to_string(), ok_status().to_string());
    take_apart();
  }
  /// The power is gone (or goes now); afterwards it is back, and the node is not started. With a
  /// keeper it is a kill: the memory that was kept survives it, as it is at this moment.
  void crash() {
    disk.cut();
    if (keeper != nullptr) keeper->freeze();
    if (store != nullptr) {
      EXPECT_EQ(driver->close().to_string(), ok_status().to_string());
      take_apart();
    }
    device.restart(loop.get());
    for (const auto& each : others) each->restart(loop.get());
    env.files().restart();
    disk.power_on();
  }
  /// Time passes, a little.
  bool turn() {
    clock.advance(microseconds(200));
    if (!disk.powered() && !lines.empty()) {
      if (keeper != nullptr) keeper->freeze();
      for (const auto& line : lines) line->cut();
    }
    if (loop->turn(Nanos(0)) > 0 || loop->turn(microseconds(200)) > 0) return true;
    clock.advance(milliseconds(10));  // only a deadline can be waited for, or a thread
    return true;
  }

  /// So much time, in steps.
  void wait(Nanos time) {
    for (const Nanos until = clock.now() + time; clock.now() < until;) {
      clock.advance(milliseconds(50));
      for (int i = 0; i < 3; ++i) turn();
    }
  }
  /// Each object's device, by the durable index.
  std::map<ChunkKey, uint16_t> places() {
    std::map<ChunkKey, uint16_t> out;
    const auto see = [&out](const MetadataRow& row) {
      for (const Extent& extent : row.extents) {
        EXPECT_EQ(extent.device, row.extents[0].device) << "whole on one device";
      }
      out[row.key] = row.extents[0].device;
    };
    EXPECT_TRUE(metadata->recover(see, [](std::string_view, const Status&) {}).ok());
    return out;
  }

  ManualClock clock;
  std::unique_ptr<Loop> loop;
  sim::SimDisk disk;
  sim::SimDevice device;
  sim::SimEnv env;
  StoreConfig config;
  MetadataStore::Options metadata_options;
  std::shared_ptr<SimAccelerator> accelerator;  // with config.hbm_bytes; null: no hbm tier
  std::shared_ptr<RowRefusal> refusal;          // of the next starts; null: no row is refused
  std::unique_ptr<SimKeeper> keeper;            // null: the dram tier ends with each life
  std::array<std::byte, 16> owner{std::byte{1}};
  std::vector<std::pair<NamespaceId, DomainId>> namespaces;  // those that a start knows
  std::vector<std::unique_ptr<sim::SimDevice>> others;       // places 1, 2, ...
  std::set<uint16_t> absent;                                 // places of devices that are missing
  std::vector<std::unique_ptr<PowerLine>> lines;
  std::unique_ptr<MetadataStore> metadata;
  std::unique_ptr<ChunkStore> store;
  std::unique_ptr<StoreDriver> driver;

 private:
  void take_apart() {
    driver.reset();
    store.reset();
    metadata.reset();
    for (int i = 0; i < 3; ++i) loop->turn(Nanos(0));
    // The lines stay until the next ones: a device may still answer what hung.
  }
};
}  // namespace terrace::testing
