// Goal: an engine reads a node's copies where they lie in device memory, every byte right, or
// learns that it must not; only the tenant whose memory it is; and what is lent comes back.
// Method: a real node with the accelerator's twin, clients in this process that open its memory
// through a twin of their own, one that is killed; every byte compared.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <csignal>
#include <thread>

#include "kernels/host_accelerator.h"
#include "proto/tiers.grpc.pb.h"
#include "tests/e2e/device_view_scenario.h"

namespace terrace::e2e {
namespace {

std::vector<std::string> with_hbm(std::vector<std::string> more = {}) {
  return flags_with_hbm("host", std::move(more));
}

ClientConfig with_device(const NodeProcess& node) {
  return config_with(node, std::make_shared<HostAccelerator>());
}

std::vector<std::byte> bytes_of(const ObjectView& view) {
  std::vector<std::byte> out;
  for (const ViewedSection& section : view.sections) {
    for (const auto& piece : section.pieces) out.insert(out.end(), piece.begin(), piece.end());
  }
  return out;
}

/// A resize of hbm, in a thread of its own.
class Resize {
 public:
  Resize(const NodeProcess& node, uint64_t bytes)
      : stub_(proto::TierAdmin::NewStub(
            grpc::CreateChannel(node.endpoint(), grpc::InsecureChannelCredentials()))) {
    thread_ = std::thread([this, bytes] {
      proto::ResizeRequest request;
      request.set_tier("hbm");
      request.set_bytes(bytes);
      const auto stream = stub_->Resize(&context_, request);
      for (proto::ResizeProgress each; stream->Read(&each);) last_ = each;
      status_ = stream->Finish();
    });
  }
  ~Resize() {
    if (thread_.joinable()) end();
  }
  /// Where it came to.
  const proto::ResizeProgress& end() {
    thread_.join();
    EXPECT_TRUE(status_.ok()) << status_.error_message();
    return last_;
  }

 private:
  const std::unique_ptr<proto::TierAdmin::Stub> stub_;
  grpc::ClientContext context_;
  proto::ResizeProgress last_;
  grpc::Status status_;
  std::thread thread_;
};

TEST(DeviceViewTest, is_the_object_where_it_lies_in_device_memory) {
  expect_views_of("host", std::make_shared<HostAccelerator>(), [](const auto& piece) {
    return std::vector<std::byte>(piece.begin(), piece.end());
  });
}

TEST(DeviceViewTest, is_for_the_tenant_of_the_memory_over_shared_memory) {
  NodeProcess node(with_hbm());
  TestClient client(with_device(node));
  store_surely(&client, "a");
  (void)view_surely(&client, {"a"});
  const auto asks = [&](ClientConfig config, StatusCode of_key, StatusCode of_all) {
    TestClient other(config);
    store_surely(&other, "a");
    for (int i = 0; i < 5; ++i) EXPECT_EQ(other.fetch("a", kBytes), StatusCode::kOk);
    const Completion done = view(&other, {"a"});
    EXPECT_EQ(done.status.code(), of_all) << done.status.to_string();
    if (of_key != StatusCode::kOk) {
      EXPECT_EQ(done.key_codes.at(0), of_key);
    }
  };
  ClientConfig stranger = with_device(node);
  stranger.tenant = "another";
  asks(stranger, StatusCode::kFailedPrecondition, StatusCode::kFailedPrecondition);
  ClientConfig remote = with_device(node);
  remote.data_path = DataPath::tcp;
  asks(remote, StatusCode::kOk, StatusCode::kFailedPrecondition);
  TestClient without(node.endpoint());
  const std::vector<ChunkKey> keys = {without.key("a")};
  EXPECT_EQ(without.sdk().device_view(without.ns(), keys, {}).status().code(),
            StatusCode::kFailedPrecondition);
  NodeProcess shared({"--dram-bytes", "128MiB", "--hbm-bytes", "64MiB", "--hbm-device", "host"});
  asks(with_device(shared), StatusCode::kFailedPrecondition, StatusCode::kFailedPrecondition);
}

TEST(DeviceViewTest, a_resize_waits_until_the_engine_lets_go_and_the_next_view_lies_elsewhere) {
  NodeProcess node(with_hbm());
  TestClient client(with_device(node));
  store_surely(&client, "a");
  const Completion held = view_surely(&client, {"a"});
  Resize resize(node, 32u << 20);
  for (int i = 0; i < 500 && client.sdk().view_valid(held.views[0].id); ++i) nap();
  EXPECT_FALSE(client.sdk().view_valid(held.views[0].id)) << "it is called back";
  EXPECT_EQ(client.sdk().verify(held.views[0].id).code(), StatusCode::kAborted);
  for (int i = 0; i < 10; ++i) nap();
  EXPECT_EQ(bytes_of(held.views[0]), TestClient::content("a", kBytes)) << "mapped all the same";
  EXPECT_EQ(view(&client, {"a"}).key_codes.at(0), StatusCode::kFailedPrecondition);
  client.sdk().release_view(held.views[0].id);
  const proto::ResizeProgress& end = resize.end();
  EXPECT_TRUE(end.over());
  EXPECT_EQ(end.code(), 0) << end.message();
  EXPECT_EQ(end.bytes(), 32u << 20);
  const Completion again = view_surely(&client, {"a"});
  EXPECT_EQ(bytes_of(again.views[0]), TestClient::content("a", kBytes));
  EXPECT_TRUE(client.sdk().verify(again.views[0].id).ok());
}

TEST(DeviceViewTest, an_engine_that_is_killed_keeps_nothing) {
  NodeProcess node(with_hbm());
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    TestClient holder(with_device(node));
    const bool stored = holder.put("a", kBytes, Durability::memory) == StatusCode::kOk;
    const Completion held = view_surely(&holder, {"a"});
    const char ok = stored && held.views.size() == 1 && held.views[0].on_device ? 'y' : 'n';
    if (::write(ready[1], &ok, 1) != 1) ::_exit(1);
    while (true) ::pause();
  }
  char ok = 'n';
  ASSERT_EQ(::read(ready[0], &ok, 1), 1);
  EXPECT_EQ(ok, 'y');
  EXPECT_EQ(node.counter("device_borrowers"), 1u);
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(comes_to(node, "device_borrowers", 0));
  EXPECT_TRUE(comes_to(node, "view_bytes", 0));
  Resize resize(node, 32u << 20);
  EXPECT_EQ(resize.end().code(), 0);
}

TEST(DeviceViewTest, who_writes_there_damages_what_a_checksum_sees) {
  ScratchDirectory scratch;
  NodeProcess node(with_hbm(
      {"--data-directory", scratch.path(), "--nvme-bytes", "512MiB", "--promote-hits", "0"}));
  TestClient client(with_device(node));
  ASSERT_EQ(client.put("a", kBytes, Durability::nvme, 3), StatusCode::kOk);
  const Completion held = view_surely(&client, {"a"});
  const auto& piece = held.views[0].sections[1].pieces[0];
  const_cast<std::byte*>(piece.data())[7] ^= std::byte{1};
  EXPECT_EQ(client.sdk().verify(held.views[0].id).code(), StatusCode::kDataLoss);
  for (int i = 0; i < 40; ++i) {  // 160 MiB through 128 MiB of dram
    ASSERT_EQ(client.put("o" + std::to_string(i), kBytes, Durability::nvme), StatusCode::kOk);
  }
  ASSERT_EQ(client.fetch("a", kBytes), StatusCode::kOk);
  EXPECT_EQ(node.counter("crc_failures_hbm"), 1u);
  EXPECT_FALSE(client.sdk().view_valid(held.views[0].id)) << "what was bad is shown no more";
}

TEST(DeviceViewTest, a_node_that_ends_asks_for_its_memory_and_does_not_wait_long) {
  for (const bool lets_go : {true, false}) {
    NodeProcess node(with_hbm());
    TestClient client(with_device(node));
    store_surely(&client, "a");
    const Completion held = view_surely(&client, {"a"});
    if (lets_go) client.sdk().release_view(held.views[0].id);
    node.signal(SIGTERM);
    EXPECT_EQ(node.wait(), 0);
    EXPECT_FALSE(client.sdk().view_valid(held.views[0].id));
    if (lets_go) continue;
    EXPECT_EQ(bytes_of(held.views[0]), TestClient::content("a", kBytes));
  }
}

TEST(DeviceViewTest, ends_with_its_node) {
  auto node = std::make_unique<NodeProcess>(with_hbm());
  TestClient client(with_device(*node));
  store_surely(&client, "a");
  const Completion held = view_surely(&client, {"a"});
  node->kill();
  for (int i = 0; i < 500 && client.sdk().view_valid(held.views[0].id); ++i) nap();
  EXPECT_EQ(client.sdk().verify(held.views[0].id).code(), StatusCode::kAborted);
  EXPECT_EQ(bytes_of(held.views[0]), TestClient::content("a", kBytes)) << "mapped all the same";
  client.sdk().release_view(held.views[0].id);
}
}  // namespace
}  // namespace terrace::e2e
