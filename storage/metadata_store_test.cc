// Goal: what was acknowledged as durable is there after a power cut at any step, what was erased
// does not come back, and no operation is ever left without its answer. Method: the real store over
// a simulated file system whose power is cut after every step of a scenario, for many seeds; a
// canary without syncs must fail the same check; injected ENOSPC and EIO; a mailbox that is full.
#include "storage/metadata_store.h"

#include <gtest/gtest.h>
#include <rocksdb/db.h>

#include <deque>
#include <map>
#include <string>

#include "base/prng.h"
#include "tests/sim/sim_env.h"

namespace terrace {
namespace {

class Wait final : public Op {
 public:
  void done(Status result) override {
    ++calls;
    status = std::move(result);
  }
  int calls = 0;
  Status status;
};

MetadataRow row(uint64_t n, uint64_t generation) {
  MetadataRow out;
  Prng prng(n);
  prng.fill(out.key.digest);
  out.ns = static_cast<NamespaceId>(1 + n % 3);
  out.generation = generation;
  out.logical_bytes = 4096 * n;
  out.stored_bytes = 4096 * n + 4096;
  out.sections = 1;
  out.extents = {{static_cast<uint32_t>(256 + n), 1}};
  return out;
}

/// The store, the disk below it and the loop above it.
class World {
 public:
  explicit World(uint64_t seed, Loop::Options loop_options = {.ring_entries = 64})
      : disk(seed), env(&disk), loop(std::move(*Loop::create(loop_options, &clock_))) {
    options.path = "/db";
    options.env = env.env();
  }
  Status open() {
    StatusOr<std::unique_ptr<MetadataStore>> opened = MetadataStore::open(options, loop.get());
    if (opened.ok()) store = std::move(*opened);
    return opened.status();
  }
  /// Ends this life: nothing more is written. Then the next one sees what survived.
  void power_cycle() {
    disk.cut();
    store.reset();
    turn();
    disk.power_on();
    env.files().restart();
  }
  void turn() {
    for (int i = 0; i < 5; ++i) loop->turn(Nanos(0));
  }
  Status wait(Wait* op) {
    for (int i = 0; i < 10'000 && op->calls == 0; ++i) loop->turn(milliseconds(2));
    EXPECT_EQ(op->calls, 1) << "no answer";
    return op->status;
  }
  Status put(const MetadataRow& what, bool durable) {
    Wait op;
    TERRACE_RETURN_IF_ERROR(store->put(what, durable, &op));
    return wait(&op);
  }
  Status erase(const MetadataRow& what) {
    Wait op;
    TERRACE_RETURN_IF_ERROR(store->erase(what.ns, what.key, what.generation, &op));
    return wait(&op);
  }
  std::map<std::string, MetadataRow> rows(size_t* bad = nullptr) {
    std::map<std::string, MetadataRow> out;
    const Status status = store->recover(
        [&](MetadataRow each) { out.emplace(row_key(each.ns, each.key), std::move(each)); },
        [&](std::string_view, const Status&) {
          if (bad != nullptr) ++*bad;
        });
    EXPECT_TRUE(status.ok()) << status.to_string();
    return out;
  }

 private:
  SystemClock clock_;

 public:
  sim::SimDisk disk;
  sim::SimEnv env;
  std::unique_ptr<Loop> loop;
  MetadataStore::Options options;
  std::unique_ptr<MetadataStore> store;
};

TEST(MetadataStore, RowsComeBack) {
  World world(1);
  ASSERT_EQ(world.open().to_string(), "OK");
  for (uint64_t n = 1; n <= 100; ++n) ASSERT_TRUE(world.put(row(n, n), n % 2 == 0).ok());
  for (uint64_t n = 1; n <= 100; n += 5) ASSERT_TRUE(world.erase(row(n, n)).ok());
  ASSERT_TRUE(world.erase(row(2, 77)).ok()) << "another generation: nothing to do";
  ASSERT_TRUE(world.erase(row(1000, 1)).ok()) << "unknown: nothing to do";
  world.store.reset();  // closed in order: nothing is lost
  ASSERT_EQ(world.open().to_string(), "OK");
  const std::map<std::string, MetadataRow> rows = world.rows();
  EXPECT_EQ(rows.size(), 80u);
  for (uint64_t n = 1; n <= 100; ++n) {
    const MetadataRow want = row(n, n);
    const auto it = rows.find(row_key(want.ns, want.key));
    ASSERT_EQ(it == rows.end(), n % 5 == 1) << n;
    if (it != rows.end()) {
      EXPECT_EQ(it->second, want);
    }
  }
}

TEST(MetadataStore, EraseInTheSameGroupSeesThePutBeforeIt) {
  World world(2);
  ASSERT_EQ(world.open().to_string(), "OK");
  std::deque<Wait> ops(4);
  ASSERT_TRUE(world.store->put(row(1, 1), false, &ops[0]).ok());
  ASSERT_TRUE(world.store->put(row(1, 2), false, &ops[1]).ok());
  ASSERT_TRUE(world.store->erase(row(1, 1).ns, row(1, 1).key, 1, &ops[2]).ok());
  ASSERT_TRUE(world.store->erase(row(2, 1).ns, row(2, 1).key, 1, &ops[3]).ok());
  for (Wait& op : ops) EXPECT_TRUE(world.wait(&op).ok());
  EXPECT_EQ(world.rows().size(), 1u) << "generation 2 stays";
  EXPECT_TRUE(world.erase(row(1, 2)).ok());
  EXPECT_TRUE(world.rows().empty());
}

TEST(MetadataStore, NamespacesAndGenerationsAreDurableOnReturn) {
  World world(3);
  ASSERT_EQ(world.open().to_string(), "OK");
  const NamespaceRow ns{static_cast<NamespaceId>(5), "tenant", "name", std::string("\0\1", 2)};
  ASSERT_TRUE(world.store->put_namespace(ns).ok());
  EXPECT_EQ(*world.store->reserve_generations(1000), 0u);
  EXPECT_EQ(*world.store->reserve_generations(10), 1000u);
  world.power_cycle();
  ASSERT_EQ(world.open().to_string(), "OK");
  EXPECT_EQ(*world.store->namespaces(), std::vector<NamespaceRow>{ns});
  EXPECT_EQ(*world.store->reserve_generations(1), 1010u);
}

TEST(MetadataStore, OneSyncServesAGroup) {
  World world(4);
  ASSERT_EQ(world.open().to_string(), "OK");
  const uint64_t before = world.env.files().syncs();
  std::deque<Wait> ops(2000);
  for (size_t i = 0; i < ops.size(); ++i) {
    ASSERT_TRUE(world.store->put(row(i, 1), true, &ops[i]).ok());
  }
  for (Wait& op : ops) ASSERT_TRUE(world.wait(&op).ok());
  EXPECT_LT(world.env.files().syncs() - before, ops.size());
  const uint64_t after = world.env.files().syncs();
  ASSERT_TRUE(world.put(row(9999, 1), false).ok());
  EXPECT_EQ(world.env.files().syncs(), after) << "nobody asked";
}

TEST(MetadataStore, TheQueueIsBoundedAndAFullMailboxLosesNoAnswer) {
  World world(5, {.ring_entries = 64, .mailbox_tasks_max = 1});
  world.options.queue_max = 10;
  ASSERT_EQ(world.open().to_string(), "OK");
  int strangers = 0;
  ASSERT_TRUE(world.loop->post([&] { ++strangers; }).ok());  // the mailbox is full
  std::deque<Wait> ops;
  Status refused;
  for (uint64_t n = 0; n < 100'000 && refused.ok(); ++n) {
    ops.emplace_back();
    refused = world.store->put(row(n, 1), false, &ops.back());
  }
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  ops.pop_back();
  for (Wait& op : ops) EXPECT_TRUE(world.wait(&op).ok());
  EXPECT_EQ(strangers, 1);

  ASSERT_TRUE(world.loop->post([&] { ++strangers; }).ok());
  Wait last;
  ASSERT_TRUE(world.store->put(row(1, 1), true, &last).ok());
  world.store.reset();  // drains, though the mailbox has no place
  EXPECT_EQ(last.calls, 0) << "not inside another call";
  world.turn();
  EXPECT_EQ(last.calls, 1);
  EXPECT_TRUE(last.status.ok());
}

TEST(MetadataStore, LockedByAnother) {
  World world(6);
  ASSERT_EQ(world.open().to_string(), "OK");
  EXPECT_EQ(MetadataStore::open(world.options, world.loop.get()).status().code(),
            StatusCode::kUnavailable);
}

/// What a newer build, or a bit flip, left behind.
void write_raw(World* world, const std::string& family, const std::string& key,
               const std::string& value) {
  rocksdb::Options options;
  options.env = world->env.env();
  rocksdb::DB* db = nullptr;
  ASSERT_TRUE(rocksdb::DB::Open(options, "/db", &db).ok());
  if (family == "new") {
    rocksdb::ColumnFamilyHandle* added = nullptr;
    ASSERT_TRUE(db->CreateColumnFamily({}, family, &added).ok());
    ASSERT_TRUE(db->DestroyColumnFamilyHandle(added).ok());
  } else {
    ASSERT_TRUE(db->Put({}, (family == "meta" ? "\xFF" : "") + key, value).ok());
  }
  delete db;
}

TEST(MetadataStore, NewerFormatsAreRefused) {
  World world(7);
  ASSERT_EQ(world.open().to_string(), "OK");
  world.store.reset();
  write_raw(&world, "meta", "format", std::string("\2\0\0\0", 4));
  EXPECT_EQ(world.open().code(), StatusCode::kFailedPrecondition);
  write_raw(&world, "meta", "format", "x");
  EXPECT_EQ(world.open().code(), StatusCode::kDataLoss);
  write_raw(&world, "meta", "format", std::string("\1\0\0\0", 4));
  EXPECT_TRUE(world.open().ok());
  world.store.reset();
  write_raw(&world, "new", "", "");
  EXPECT_EQ(world.open().code(), StatusCode::kFailedPrecondition);
}

TEST(MetadataStore, BadRowsAreHandedOverAndCanBeErased) {
  World world(8);
  ASSERT_EQ(world.open().to_string(), "OK");
  ASSERT_TRUE(world.put(row(1, 1), true).ok());
  world.store.reset();
  const MetadataRow hurt = row(2, 1);
  write_raw(&world, "rows", row_key(hurt.ns, hurt.key), "not a row");
  ASSERT_EQ(world.open().to_string(), "OK");
  size_t bad = 0;
  EXPECT_EQ(world.rows(&bad).size(), 1u);
  EXPECT_EQ(bad, 1u);
  EXPECT_TRUE(world.erase(hurt).ok());
  bad = 0;
  EXPECT_EQ(world.rows(&bad).size(), 1u);
  EXPECT_EQ(bad, 0u);
}

TEST(MetadataStore, FullOrBrokenDisksAreErrorsAndPass) {
  for (const StatusCode code : {StatusCode::kResourceExhausted, StatusCode::kDataLoss}) {
    for (uint64_t skip = 0; skip < 6; ++skip) {
      SCOPED_TRACE(std::string(name_of(code)) + " after " + std::to_string(skip));
      World world(9 + skip);
      ASSERT_EQ(world.open().to_string(), "OK");
      ASSERT_TRUE(world.put(row(1, 1), true).ok());
      world.env.files().fail(skip, code, true);
      bool failed = false;
      for (uint64_t n = 2; n < 10; ++n) failed = !world.put(row(n, 1), true).ok() || failed;
      EXPECT_TRUE(failed);
      world.env.files().heal();
      Status again;
      for (int i = 0; i < 100; ++i) {
        again = world.put(row(20, 1), true);
        if (again.ok()) break;
      }
      EXPECT_TRUE(again.ok()) << again.to_string();
      EXPECT_TRUE(world.erase(row(1, 1)).ok());
      world.power_cycle();
      ASSERT_EQ(world.open().to_string(), "OK");
      const std::map<std::string, MetadataRow> rows = world.rows();
      EXPECT_TRUE(rows.contains(row_key(row(20, 1).ns, row(20, 1).key)));
      EXPECT_FALSE(rows.contains(row_key(row(1, 1).ns, row(1, 1).key)));
    }
  }
}

/// Puts and erases with the power going after `steps`; then what was promised is compared. Returns
/// how many promises were broken.
size_t broken_promises(uint64_t seed, uint64_t steps, bool sync) {
  World world(seed);
  world.options.sync = sync;
  world.options.write_buffer_bytes = 64 << 10;  // so that files are flushed and compacted as well
  EXPECT_TRUE(world.open().ok());
  world.disk.cut_after(steps);
  Prng prng(seed);
  std::map<uint64_t, bool> promised;  // number -> there; what is in doubt is not in it
  for (uint64_t i = 0; i < 400 && world.disk.powered(); ++i) {
    const uint64_t n = prng.below(40);
    const auto was = promised.find(n);
    const bool there = was != promised.end() && was->second;
    promised.erase(n);
    if (there && prng.below(2) == 0) {
      if (world.erase(row(n, 1)).ok()) promised[n] = false;
    } else {
      const bool durable = prng.below(3) != 0;
      if (world.put(row(n, 1), durable).ok() && durable) promised[n] = true;
    }
  }
  world.power_cycle();
  const Status opened = world.open();
  EXPECT_TRUE(opened.ok()) << "seed " << seed << " steps " << steps << ": " << opened.to_string();
  if (!opened.ok()) return 1;
  size_t bad = 0;
  const std::map<std::string, MetadataRow> rows = world.rows(&bad);
  EXPECT_EQ(bad, 0u) << "seed " << seed << " steps " << steps;
  size_t broken = 0;
  for (const auto& [n, there] : promised) {
    const MetadataRow want = row(n, 1);
    if (rows.contains(row_key(want.ns, want.key)) != there) ++broken;
  }
  return broken;
}

TEST(MetadataStore, PowerCutAfterEveryStep) {
  for (uint64_t steps = 0; steps < 300; ++steps) {
    ASSERT_EQ(broken_promises(1000 + steps, steps, true), 0u) << "seed " << 1000 + steps;
  }
}

TEST(MetadataStore, PowerCutAnywhereForManySeeds) {
  for (uint64_t seed = 5000; seed < 6000; ++seed) {
    ASSERT_EQ(broken_promises(seed, Prng(seed).below(1200), true), 0u) << "seed " << seed;
  }
}

TEST(MetadataStore, TheCanaryWithoutSyncsIsCaught) {
  size_t broken = 0;
  for (uint64_t seed = 1; seed <= 30; ++seed) broken += broken_promises(seed, 100, false);
  EXPECT_GT(broken, 0u);
}

TEST(MetadataStore, MemoryStaysWithinItsBound) {
  World world(11);
  ASSERT_EQ(world.open().to_string(), "OK");
  constexpr uint64_t kRows = 200'000;
  constexpr uint64_t kGroup = 10'000;
  for (uint64_t first = 0; first < kRows; first += kGroup) {
    std::deque<Wait> ops(kGroup);
    for (uint64_t i = 0; i < kGroup; ++i) {
      ASSERT_TRUE(world.store->put(row(first + i, 1), false, &ops[i]).ok());
    }
    for (Wait& op : ops) ASSERT_TRUE(world.wait(&op).ok());
  }
  Prng prng(1);
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(world.erase(row(prng.below(kRows), 2)).ok());
  EXPECT_LE(world.store->memory_bytes(), uint64_t{32} << 20);
  EXPECT_EQ(world.rows().size(), kRows);
}
}  // namespace
}  // namespace terrace
