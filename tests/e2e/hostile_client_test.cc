// Goal: a client that lies, breaks the protocol, or stops reading loses its operation or its
// connection with a clear code; the node stays up and others do not notice.
// Method: one lie at a time over plain sockets against a real node; after each, and during the slow
// ones, an honest client stores and fetches.
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "proto/data.pb.h"
#include "tests/e2e/harness.h"
#include "tests/e2e/raw_client.h"

namespace terrace::e2e {
namespace {

class HostileClientTest : public testing::Test {
 protected:
  HostileClientTest() : node_({}), honest_(node_.endpoint()) {
    EXPECT_EQ(honest_.put("honest", 3'000'000, Durability::memory), StatusCode::kOk);
  }
  void TearDown() override {
    EXPECT_EQ(honest_.fetch("honest", 3'000'000), StatusCode::kOk) << "others noticed";
  }
  RawClient liar() { return {node_.endpoint(), node_.data_port()}; }
  /// A request for the honest object, into a region that nobody has.
  proto::FetchRequest good_fetch(const RawClient& client) {
    return fetch_of(client, honest_.key("honest"), 3'000'000);
  }
  StatusCode fetch_code(RawClient* client, const proto::FetchRequest& request) {
    client->send(MessageKind::fetch_request, 7, request);
    proto::FetchReply reply;
    if (!client->receive(MessageKind::fetch_reply, &reply)) return StatusCode::kUnavailable;
    EXPECT_TRUE(reply.outcome().code() == 0 || !reply.outcome().message().empty());
    return status_code_of(reply.outcome().code());
  }
  NodeProcess node_;
  TestClient honest_;
};

TEST_F(HostileClientTest, NothingIsParsedBeforeTheSecret) {
  FrameHeader header{.type = FrameType::hello, .body_bytes = kHelloBytes};
  const auto hello = encode(Hello{.secret = {}, .connection = 0, .connections = 2});
  std::vector<std::vector<std::byte>> lies;
  const auto frame = [](FrameHeaderBytes bytes, std::span<const std::byte> body) {
    std::vector<std::byte> out(bytes.begin(), bytes.end());
    out.insert(out.end(), body.begin(), body.end());
    return out;
  };
  lies.push_back(frame(encode(header), hello));  // a secret that nobody gave out
  FrameHeaderBytes other_version = encode(header);
  other_version[4] = std::byte{9};
  lies.push_back(frame(other_version, hello));
  FrameHeaderBytes bad_magic = encode(header);
  bad_magic[0] = std::byte{'G'};
  lies.push_back(frame(bad_magic, hello));
  lies.push_back(frame(encode({.type = FrameType::message, .kind = 1}), {}));
  header.body_bytes = ~uint32_t{0};  // 4 GiB
  lies.push_back(frame(encode(header), hello));
  lies.push_back(std::vector<std::byte>(100, std::byte{'x'}));
  for (size_t i = 0; i < lies.size(); ++i) {
    RawConnection stranger(node_.data_port());
    stranger.send(lies[i]);
    EXPECT_TRUE(stranger.closed_by_peer()) << "lie " << i;
  }
}

TEST_F(HostileClientTest, BrokenFramesCloseTheConnection) {
  const auto broken = [&](const FrameHeader& header, size_t body, bool on_data) {
    RawClient client = liar();
    RawConnection& at = on_data ? client.data() : client.messages();
    at.send(header, std::vector<std::byte>(body, std::byte{0x5A}));
    return at.closed_by_peer();
  };
  EXPECT_TRUE(broken({.type = FrameType::message, .kind = 999}, 0, false)) << "unknown kind";
  EXPECT_TRUE(broken({.type = FrameType::message, .kind = 5, .body_bytes = 10}, 10, false))
      << "no protobuf";
  EXPECT_TRUE(broken({.type = FrameType::message, .kind = 1, .body_bytes = ~uint32_t{0}}, 0, false))
      << "4 GiB body";
  EXPECT_TRUE(broken({.type = FrameType::write, .kind = 1, .payload_bytes = ~uint32_t{0}}, 0, true))
      << "4 GiB payload";
  EXPECT_TRUE(broken({.type = FrameType::message, .kind = 1}, 0, true)) << "wrong connection";
  EXPECT_TRUE(
      broken({.type = FrameType::read, .kind = 2, .body_bytes = 24, .immediate = 9}, 24, true))
      << "a table that is too short";
  RawClient client = liar();
  FrameHeaderBytes bytes = encode({.type = FrameType::message, .kind = 1});
  bytes[20] ^= std::byte{1};  // behind the checksum's back
  client.messages().send(bytes);
  EXPECT_TRUE(client.messages().closed_by_peer()) << "header checksum";
}

TEST_F(HostileClientTest, ClientsNeitherReadNorWriteTheNodesMemory) {
  RawClient client = liar();
  std::vector<std::byte> table(kRemoteSpanBytes);
  const RemoteSpan span{RegionId{1}, 0, 100};
  encode({&span, 1}, table);
  client.data().send({.type = FrameType::read,
                      .kind = 1,
                      .tag = 1,
                      .body_bytes = static_cast<uint32_t>(table.size()),
                      .immediate = 100},
                     table);
  // Either refused or the end of the connection; never bytes.
  const auto answer = client.data().receive(2'000);
  EXPECT_TRUE(!answer || answer->header.type == FrameType::read_error);
}

TEST_F(HostileClientTest, RequestsThatDoNotAddUpAreRefusedByCode) {
  RawClient client = liar();
  proto::FetchRequest request = good_fetch(client);
  request.mutable_items(0)->set_key("short");
  EXPECT_EQ(fetch_code(&client, request), StatusCode::kInvalidArgument);
  request = good_fetch(client);
  request.mutable_items(0)->set_fragments("not 32 bytes");
  EXPECT_EQ(fetch_code(&client, request), StatusCode::kInvalidArgument);
  request = good_fetch(client);
  request.set_namespace_id(12345);
  EXPECT_EQ(fetch_code(&client, request), StatusCode::kPermissionDenied);
  request = good_fetch(client);
  for (uint32_t i = 0; i < kKeysPerRequestMax; ++i) *request.add_items() = request.items(0);
  EXPECT_EQ(fetch_code(&client, request), StatusCode::kInvalidArgument);
  request = good_fetch(client);
  const Fragment far{~uint64_t{0} - 5, RegionId{1}, 0, 100};  // wraps around
  request.mutable_items(0)->set_fragments(pack_fragments({&far, 1}));
  const StatusCode wraps = fetch_code(&client, request);
  EXPECT_TRUE(wraps == StatusCode::kInvalidArgument || wraps == StatusCode::kOutOfRange);
  request = good_fetch(client);
  request.mutable_items(0)->set_blocks(pack_words(std::vector<uint32_t>{1}));
  EXPECT_EQ(fetch_code(&client, request), StatusCode::kInvalidArgument) << "both forms";
  request.mutable_items(0)->clear_fragments();
  EXPECT_EQ(fetch_code(&client, request), StatusCode::kInvalidArgument) << "no pool";
  const PoolPlane wraps_too{0, RegionId{1}, 0, ~uint64_t{0}, 64};
  request.set_pool(pack_planes({&wraps_too, 1}));
  EXPECT_EQ(fetch_code(&client, request), StatusCode::kInvalidArgument);
  proto::LookupRequest lookup;
  lookup.set_namespace_id(client.ns());
  lookup.set_keys(std::string(33, 'k'));
  client.send(MessageKind::lookup_request, 8, lookup);
  proto::LookupReply reply;
  ASSERT_TRUE(client.receive(MessageKind::lookup_reply, &reply));
  EXPECT_EQ(status_code_of(reply.outcome().code()), StatusCode::kInvalidArgument);
}

TEST_F(HostileClientTest, APutThatLiesAboutItsSourceEndsAlone) {
  const ChunkKey key = honest_.key("lie");
  const auto outcome = [&](const proto::PutSource& source, bool answer_reads) {
    RawClient client = liar();
    client.send(MessageKind::put_request, 3, put_of(client, key, 200'000));
    proto::PutAdmission admission;
    EXPECT_TRUE(client.receive(MessageKind::put_admission, &admission));
    EXPECT_EQ(admission.outcome().code(), 0) << admission.outcome().message();
    client.send(MessageKind::put_source, 3, source);
    if (answer_reads) {
      const auto read = client.data().receive();
      EXPECT_TRUE(read && read->header.type == FrameType::read);
      if (read) {
        const std::vector<std::byte> bytes(read->header.immediate, std::byte{1});
        client.data().send({.type = FrameType::read_data,
                            .tag = read->header.tag,
                            .payload_bytes = read->header.immediate},
                           bytes);
      }
    }
    proto::PutReply reply;
    EXPECT_TRUE(client.receive(MessageKind::put_reply, &reply));
    return status_code_of(reply.outcome().code());
  };
  proto::PutSource source;
  source.set_first(4);  // no such section
  source.set_count(1);
  EXPECT_EQ(outcome(source, false), StatusCode::kInvalidArgument);
  source.set_first(0);
  const uint32_t few[] = {1, 2};  // the section has four units
  source.set_crcs(pack_words(few));
  EXPECT_EQ(outcome(source, false), StatusCode::kInvalidArgument);
  const uint32_t wrong[] = {1, 2, 3, 4};
  source.set_crcs(pack_words(wrong));
  EXPECT_EQ(outcome(source, true), StatusCode::kDataLoss);
  EXPECT_EQ(honest_.fetch("lie", 200'000), StatusCode::kNotFound) << "nothing of it is visible";
}

TEST_F(HostileClientTest, OneThatStopsReadingHoldsUpNobody) {
  ASSERT_EQ(honest_.put("large", 32u << 20, Durability::memory), StatusCode::kOk);
  RawClient deaf = liar();
  for (uint64_t tag = 1; tag <= 8; ++tag) {
    proto::FetchRequest request = fetch_of(deaf, honest_.key("large"), 32u << 20);
    request.set_deadline_ms(2'000);
    deaf.send(MessageKind::fetch_request, tag, request);
  }
  const SystemClock clock;
  const Nanos begin = clock.now();
  for (int i = 0; i < 10; ++i) EXPECT_EQ(honest_.fetch("large", 32u << 20), StatusCode::kOk);
  EXPECT_LT(clock.now() - begin, seconds(5));
  // Its own operations end by their deadline. One whose frame is half sent can only be ended with
  // the connection.
  int replies = 0;
  for (int i = 0; i < 8; ++i) {
    proto::FetchReply reply;
    if (!deaf.receive(MessageKind::fetch_reply, &reply)) break;
    EXPECT_EQ(status_code_of(reply.outcome().code()), StatusCode::kDeadlineExceeded);
    ++replies;
  }
  EXPECT_TRUE(replies == 8 || deaf.messages().closed_by_peer()) << replies;
}

TEST_F(HostileClientTest, ASecretOpensOneConnection) {
  const ChunkKey key = honest_.key("contended");
  const auto ask = [&](RawClient& client) {
    client.send(MessageKind::put_request, 3, put_of(client, key, 200'000));
  };
  RawClient first = liar();
  ask(first);
  proto::PutAdmission admission;
  ASSERT_TRUE(first.receive(MessageKind::put_admission, &admission));
  auto second = std::make_unique<RawClient>(liar());
  ask(*second);  // waits for the first, also when its connection is gone
  const SessionSecret secret = second->secret();
  ::usleep(100'000);
  second.reset();
  ::usleep(100'000);
  RawConnection again(node_.data_port());
  again.send_hello(secret, 0, 2);
  EXPECT_TRUE(again.closed_by_peer());
  first.send(MessageKind::cancel_request, 3, proto::CancelRequest());
  proto::PutReply reply;
  EXPECT_TRUE(first.receive(MessageKind::put_reply, &reply));
}

TEST_F(HostileClientTest, PartsWithoutEndAreRefusedBeforeTheyAreParsed) {
  RawClient client = liar();
  proto::MatchRequest request;
  request.set_namespace_id(client.ns());
  for (int i = 0; i < 1'000'000; ++i) request.add_groups();
  client.send(MessageKind::match_request, 1, request);
  proto::MatchReply reply;
  ASSERT_TRUE(client.receive(MessageKind::match_reply, &reply));
  EXPECT_EQ(status_code_of(reply.outcome().code()), StatusCode::kInvalidArgument);
}

TEST_F(HostileClientTest, OneSessionDoesNotTakeEveryPut) {
  RawClient greedy = liar();
  int refused = 0;
  for (uint64_t tag = 1; tag <= 1000; ++tag) {
    const ChunkKey key = honest_.key("greedy" + std::to_string(tag));
    greedy.send(MessageKind::put_request, tag, put_of(greedy, key, 1));
    proto::PutAdmission admission;
    ASSERT_TRUE(greedy.receive(MessageKind::put_admission, &admission));
    if (admission.outcome().code() != 0) ++refused;
  }
  EXPECT_EQ(refused, 1000 - 576);
  EXPECT_EQ(honest_.put("beside the greedy one", 1000, Durability::memory), StatusCode::kOk);
}

TEST(DeafClientTest, HoldsUpNobodysReadsFromNvme) {
  ScratchDirectory directory;
  const std::vector<std::string> flags = {
      "--data-directory", directory.path(), "--nvme-bytes",   "512MiB",
      "--dram-bytes",     "64MiB",          "--promote-hits", "0"};
  {
    NodeProcess node(flags);
    TestClient honest(node.endpoint());
    ASSERT_EQ(honest.put("large", 32u << 20, Durability::nvme, 512), StatusCode::kOk);
    ASSERT_EQ(honest.put("small", 1u << 20, Durability::nvme), StatusCode::kOk);
    node.signal(SIGTERM);
    node.wait();
  }
  NodeProcess node(flags);
  TestClient honest(node.endpoint());
  RawClient deaf(node.endpoint(), node.data_port());
  const proto::FetchRequest request = fetch_of(deaf, honest.key("large"), 32u << 20);
  for (uint64_t tag = 1; tag <= 16; ++tag) deaf.send(MessageKind::fetch_request, tag, request);
  ::usleep(300'000);
  const SystemClock clock;
  const Nanos begin = clock.now();
  for (int i = 0; i < 10; ++i) EXPECT_EQ(honest.fetch("small", 1u << 20), StatusCode::kOk);
  EXPECT_LT(clock.now() - begin, seconds(3));
}

TEST(OverloadTest, StoresAreRefusedFirstThenPrefetches) {
  NodeProcess node({"--operations-in-flight-max", "16"});
  TestClient honest(node.endpoint());
  ASSERT_EQ(honest.put("large", 32u << 20, Durability::memory), StatusCode::kOk);
  RawClient greedy(node.endpoint(), node.data_port());
  const proto::FetchRequest request = fetch_of(greedy, honest.key("large"), 32u << 20);
  uint64_t tag = 1;
  const auto fill_to = [&](uint64_t operations) {  // nobody reads what they send
    for (; tag <= operations; ++tag) greedy.send(MessageKind::fetch_request, tag, request);
    ::usleep(100'000);
  };
  const auto fetch = [&](Priority priority) {
    const Fragment here{0, honest.region(), 0, 1000};
    const ChunkKey wanted = honest.key("large");
    const FetchItem one{wanted, {&here, 1}};
    FetchOptions options;
    options.priority = priority;
    const auto op = honest.sdk().fetch(honest.ns(), {&one, 1}, options);
    return honest.sdk().wait(*op, std::chrono::seconds(20))->key_codes[0];
  };
  fill_to(12);
  EXPECT_EQ(honest.put("refused", 1000, Durability::memory), StatusCode::kResourceExhausted);
  EXPECT_EQ(fetch(Priority::prefetch), StatusCode::kOk);
  fill_to(14);
  EXPECT_EQ(fetch(Priority::prefetch), StatusCode::kResourceExhausted);
  EXPECT_EQ(fetch(Priority::load), StatusCode::kOk);
  fill_to(16);
  EXPECT_EQ(fetch(Priority::load), StatusCode::kResourceExhausted);
}

TEST(OverloadTest, IsSaidWithinAMillisecond) {
  NodeProcess node({"--operations-in-flight-max", "4"});
  TestClient honest(node.endpoint());
  ASSERT_EQ(honest.put("large", 32u << 20, Durability::memory), StatusCode::kOk);
  RawClient greedy(node.endpoint(), node.data_port());
  const proto::FetchRequest request = fetch_of(greedy, honest.key("large"), 32u << 20);
  std::vector<Nanos> times;
  const SystemClock clock;
  int accepted = 0;
  for (uint64_t tag = 1; tag <= 60; ++tag) {  // nobody reads what the first few send
    const Nanos begin = clock.now();
    greedy.send(MessageKind::fetch_request, tag, request);
    if (tag <= 4) {
      ++accepted;
      continue;
    }
    proto::FetchReply reply;
    ASSERT_TRUE(greedy.receive(MessageKind::fetch_reply, &reply)) << tag;
    ASSERT_EQ(status_code_of(reply.outcome().code()), StatusCode::kResourceExhausted);
    EXPECT_NE(reply.outcome().message().find("in flight"), std::string::npos);
    times.push_back(clock.now() - begin);
  }
  EXPECT_EQ(accepted, 4);
  std::sort(times.begin(), times.end());
  // The median: a shared machine may take the core away for longer than any answer takes.
  EXPECT_LE(times[times.size() / 2], milliseconds(1));
}
}  // namespace
}  // namespace terrace::e2e
