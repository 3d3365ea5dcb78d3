// Goal: however many scans of the index clients ask for, a turn of the loop does one step of one of
// them, and a session is refused more lists than it may have.
// Method: scans that count their steps; then lists of several sessions over a store.
#include "server/node/scan_turns.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "server/node/list_op.h"
#include "tests/sim/dram_store_fixture.h"

namespace terrace {
namespace {

class ScanTurnsTest : public testing::DramStoreTest {
 protected:
  void SetUp() override {
    open(64 * kMiB);
    scans_ = std::make_unique<ScanTurns>(loop_.get());
    context_.config = &node_;
    context_.loop = loop_.get();
    context_.store = store_.get();
    context_.counters = &counters_;
    context_.scans = scans_.get();
    Fingerprint raw;
    raw.model_id = "model";
    bool created = false;
    const auto opened = namespaces_.open("tenant", "name", raw, &created);
    ASSERT_TRUE(opened.ok());
    ns_ = *opened;
  }
  std::unique_ptr<Session> session() {
    auto made = std::make_unique<Session>(&context_, "tenant", "client", Secret());
    made->opened(ns_);
    return made;
  }
  Status list(Session* session, uint64_t tag) {
    proto::ListRequest request;
    request.set_namespace_id(static_cast<uint32_t>(ns_->id));
    request.set_limit(10);
    auto op = ListOp::create(&context_, session, tag, request);
    return op.ok() ? session->start(*std::move(op)) : std::move(op).status();
  }
  uint64_t listed() {
    const auto& lists = counters_.ops[static_cast<size_t>(OpKind::list)];
    return lists.by_code[static_cast<size_t>(StatusCode::kOk)].get();
  }

  NodeConfig node_;
  NodeCounters counters_;
  NodeContext context_;
  NamespaceTable namespaces_{nullptr, "", 1};
  std::shared_ptr<const Namespace> ns_;
  std::unique_ptr<ScanTurns> scans_;
};

TEST_F(ScanTurnsTest, a_step_per_turn_and_each_in_its_turn) {
  constexpr size_t kScans = 10;
  std::vector<size_t> steps;  // whose
  std::vector<Task> scans(kScans);
  for (size_t i = 0; i < kScans; ++i) {
    scans[i] = [&, i] {
      steps.push_back(i);
      if (steps.size() <= 2 * kScans) scans_->wait(scans[i]);
    };
    scans_->wait(scans[i]);
  }
  EXPECT_TRUE(steps.empty()) << "never inside the call";
  for (size_t turn = 0; turn < 3 * kScans; ++turn) {
    loop_->turn(Nanos(0));
    ASSERT_EQ(steps.size(), turn + 1);
    EXPECT_EQ(steps.back(), turn % kScans);
  }
}

TEST_F(ScanTurnsTest, what_waits_at_the_end_never_runs) {
  bool ran = false;
  scans_->wait([&ran] { ran = true; });
  scans_.reset();
  for (int i = 0; i < 3; ++i) loop_->turn(Nanos(0));
  EXPECT_FALSE(ran);
}

TEST_F(ScanTurnsTest, many_lists_at_once_take_a_turn_each) {
  std::vector<std::unique_ptr<Session>> sessions;
  uint64_t lists = 0;
  for (int i = 0; i < 4; ++i) {
    sessions.push_back(session());
    for (uint64_t tag = 1; tag <= ListOp::kPerSessionMax; ++tag, ++lists) {
      ASSERT_TRUE(list(sessions.back().get(), tag).ok());
    }
  }
  uint64_t before = listed();
  EXPECT_EQ(before, 0u);
  for (uint64_t turn = 0; turn < lists; ++turn) {
    loop_->turn(Nanos(0));
    EXPECT_LE(listed(), before + 1) << "in turn " << turn;
    before = listed();
  }
  EXPECT_EQ(before, lists);
  loop_->turn(Nanos(0));  // they are destroyed
}

TEST_F(ScanTurnsTest, a_session_has_a_few_lists_at_once) {
  const auto greedy = session();
  const auto modest = session();
  for (uint64_t tag = 1; tag <= ListOp::kPerSessionMax; ++tag) {
    ASSERT_TRUE(list(greedy.get(), tag).ok());
  }
  const Status refused = list(greedy.get(), 1000);
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  const std::string limit = "at most " + std::to_string(ListOp::kPerSessionMax);
  EXPECT_NE(refused.message().find(limit), std::string::npos) << refused.to_string();
  EXPECT_TRUE(list(modest.get(), 1).ok());
  for (uint32_t i = 0; i < ListOp::kPerSessionMax + 3; ++i) loop_->turn(Nanos(0));
  EXPECT_EQ(greedy->operations() + modest->operations(), 0u);
  EXPECT_TRUE(list(greedy.get(), 1001).ok()) << "those before are over";
  for (int i = 0; i < 3; ++i) loop_->turn(Nanos(0));
}
}  // namespace
}  // namespace terrace
