// Goal: what an RDMA peer sends is either understood to the last byte or refused; nothing hostile
// gets further; without a device there is a reason. Method: round trips, golden bytes, every
// truncation, one field at a time spoiled.
#include "transport/rdma_wire.h"

#include <gtest/gtest.h>

#include "base/prng.h"
#include "transport/rdma_stream.h"
#include "transport/rdma_transport.h"
#include "transport/wire_format.h"

namespace terrace {
namespace {

RdmaPathEndpoint path(uint32_t n) {
  return {.gid = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 10, 0, 0, static_cast<uint8_t>(n)},
          .lid = static_cast<uint16_t>(n),
          .ethernet = true,
          .mtu = 5,
          .reads_max = 16,
          .message_qpn = 0x100 + n,
          .message_psn = 0x200 + n,
          .data_qpn = 0x300 + n,
          .data_psn = 0xFFFFFF};
}

TEST(RdmaEndpoint, ComesBackAndHasItsGoldenBytes) {
  const RdmaEndpoint endpoint{.paths = {path(1), path(2), path(3), path(4)}};
  const std::string bytes = encode(endpoint);
  EXPECT_EQ(bytes.size(), 176u);
  const StatusOr<RdmaEndpoint> back = decode_rdma_endpoint(bytes);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(*back, endpoint);
  EXPECT_EQ(bytes.substr(0, 16), std::string("TRDE\x01\x04\0\0\0\x20\0\0\x20\0\x40\0", 16));
  EXPECT_EQ(bytes.substr(32, 8), std::string("\x01\0\x01\x05\x10\0\0\0", 8));
}

TEST(RdmaEndpoint, EveryTruncationAndEveryExtensionIsRefused) {
  const std::string bytes = encode(RdmaEndpoint{.paths = {path(1), path(2)}});
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(decode_rdma_endpoint(bytes.substr(0, length)).ok()) << length;
  }
  EXPECT_FALSE(decode_rdma_endpoint(bytes + '\0').ok());
}

TEST(RdmaEndpoint, HostileValuesAreRefused) {
  const auto refused = [](auto spoil) {
    RdmaEndpoint endpoint{.paths = {path(1)}};
    spoil(&endpoint.paths[0]);
    return decode_rdma_endpoint(encode(endpoint)).status().code() == StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](RdmaPathEndpoint* p) { p->mtu = 0; }));
  EXPECT_TRUE(refused([](RdmaPathEndpoint* p) { p->mtu = 6; }));
  EXPECT_TRUE(refused([](RdmaPathEndpoint* p) { p->reads_max = 0; }));
  EXPECT_TRUE(refused([](RdmaPathEndpoint* p) { p->message_qpn = 0; }));
  EXPECT_TRUE(refused([](RdmaPathEndpoint* p) { p->data_qpn = 1 << 24; }));
  EXPECT_TRUE(refused([](RdmaPathEndpoint* p) { p->data_psn = 1 << 24; }));
  EXPECT_TRUE(refused([](RdmaPathEndpoint* p) { p->gid = {}; }));
  EXPECT_FALSE(decode_rdma_endpoint(encode(RdmaEndpoint{})).ok());
  EXPECT_FALSE(decode_rdma_endpoint(encode(RdmaEndpoint{.paths = std::vector(5, path(1))})).ok());
  std::string bytes = encode(RdmaEndpoint{.paths = {path(1)}});
  bytes[4] = 9;
  const Status version = decode_rdma_endpoint(bytes).status();
  EXPECT_EQ(version.code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(version.message().find('9'), std::string::npos);
  bytes[4] = 1;
  bytes[12] = 64;  // another window
  EXPECT_EQ(decode_rdma_endpoint(bytes).status().code(), StatusCode::kFailedPrecondition);
}

TEST(RdmaFrame, ComesBackAndLiesAreRefused) {
  std::vector<std::byte> frame(kRdmaFrameHeaderBytes + 5);
  const auto with = [&](const RdmaFrameHeader& header) {
    encode(header, std::span(frame).first<kRdmaFrameHeaderBytes>());
    return decode_rdma_frame(frame);
  };
  const RdmaFrameHeader good{.bytes = 5, .sequence = 7, .acknowledged = 6};
  ASSERT_TRUE(with(good).ok());
  EXPECT_EQ(*with(good), good);
  EXPECT_FALSE(with({.bytes = 4, .sequence = 7}).ok());
  EXPECT_FALSE(with({.bytes = 6, .sequence = 7}).ok());
  EXPECT_FALSE(with({.bytes = 5, .sequence = 0}).ok());
  for (size_t length = 0; length < kRdmaFrameHeaderBytes; ++length) {
    EXPECT_FALSE(decode_rdma_frame(std::span(frame).first(length)).ok());
  }
  frame[0] = std::byte{2};
  EXPECT_EQ(decode_rdma_frame(frame).status().code(), StatusCode::kFailedPrecondition);
}

TEST(RdmaRecord, LengthsAndCountsAreChecked) {
  using enum RdmaRecordType;
  const auto ok = [](const RdmaRecord& record) {
    std::array<std::byte, kRdmaRecordBytes> bytes;
    encode(record, bytes);
    const StatusOr<RdmaRecord> back = decode_rdma_record(bytes);
    if (back.ok()) {
      EXPECT_EQ(*back, record);
    }
    return back.ok();
  };
  EXPECT_TRUE(ok({.type = message, .count = 9, .body_bytes = kBodyBytesMax, .tag = 4}));
  EXPECT_FALSE(ok({.type = message, .body_bytes = kBodyBytesMax + 1}));
  EXPECT_FALSE(ok({.type = signal, .body_bytes = 0xFFFFFFFF}));
  EXPECT_TRUE(ok({.type = write, .count = 1, .body_bytes = 30, .id = 1, .bytes = 8}));
  EXPECT_FALSE(ok({.type = write, .count = 1, .body_bytes = 23, .bytes = 8}));
  EXPECT_FALSE(ok({.type = write, .count = 0, .body_bytes = 0, .bytes = 8}));
  EXPECT_FALSE(ok({.type = write, .count = 257, .body_bytes = 257 * 24, .bytes = 257}));
  EXPECT_FALSE(ok({.type = write, .count = 1, .body_bytes = 24, .bytes = 0}));
  EXPECT_FALSE(ok({.type = write, .count = 1, .body_bytes = 24, .bytes = kMiB + 1}));
  EXPECT_TRUE(ok({.type = read, .count = 2, .body_bytes = 48, .bytes = 8}));
  EXPECT_FALSE(ok({.type = read, .count = 2, .body_bytes = 49, .bytes = 8}));
  EXPECT_TRUE(ok({.type = grant, .count = 512, .body_bytes = 512 * 16}));
  EXPECT_FALSE(ok({.type = grant, .count = 513, .body_bytes = 513 * 16}));
  EXPECT_FALSE(ok({.type = grant, .count = 1, .body_bytes = 17}));
  EXPECT_TRUE(ok({.type = hello, .body_bytes = 16}));
  EXPECT_FALSE(ok({.type = hello, .body_bytes = 15}));
  for (const RdmaRecordType type : {hello_ok, refused, landed, finished, abandoned, revoke, lane}) {
    EXPECT_TRUE(ok({.type = type, .path = 3, .id = 1, .unfinished = 2, .argument = 5}));
    EXPECT_FALSE(ok({.type = type, .body_bytes = 1}));
  }
  EXPECT_FALSE(ok({.type = static_cast<RdmaRecordType>(0)}));
  EXPECT_FALSE(ok({.type = static_cast<RdmaRecordType>(14)}));
}

TEST(RdmaGrant, TheSumMustBeWhatWasAskedFor) {
  const std::vector<RdmaGrantEntry> good{{0x1000, 7, 100}, {UINT64_MAX - 50, 8, 50}};
  const StatusOr<std::vector<RdmaGrantEntry>> back = decode_rdma_grant(encode(good), 150);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(*back, good);
  EXPECT_FALSE(decode_rdma_grant(encode(good), 149).ok());
  EXPECT_FALSE(decode_rdma_grant(encode(good), 151).ok());
  EXPECT_FALSE(decode_rdma_grant(encode(std::vector<RdmaGrantEntry>{{1, 1, 0}}), 0).ok());
  EXPECT_FALSE(decode_rdma_grant(encode(std::vector<RdmaGrantEntry>{{UINT64_MAX, 1, 8}}), 8).ok());
  EXPECT_FALSE(decode_rdma_grant(std::vector<std::byte>(15), 8).ok());
}

/// Keeps what comes.
struct Collector final : RdmaInStream::Sink {
  Status record_came(const RdmaRecord& record, std::span<const std::byte> body) override {
    records.push_back(record);
    bodies.emplace_back(body.begin(), body.end());
    return ok_status();
  }
  std::vector<RdmaRecord> records;
  std::vector<std::vector<std::byte>> bodies;
};

TEST(RdmaStream, RecordsSurviveAnyCut) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Prng prng(seed);
    RdmaOutStream out;
    RdmaInStream in;
    Collector got;
    std::vector<std::vector<std::byte>> steps;
    std::vector<std::vector<std::byte>> messages;
    std::vector<std::byte> frame(100 + prng.below(9000));
    for (int i = 0; i < 60 || !out.empty(); ++i) {
      if (i < 60) {
        std::vector<std::byte> body(prng.chance(10) ? prng.below(50'000) : prng.below(200));
        prng.fill(body);
        if (prng.chance(50)) {
          messages.push_back(body);
          out.push_message({.type = RdmaRecordType::message, .id = messages.size()}, body);
        } else {
          steps.push_back(body);
          out.push_step({.type = RdmaRecordType::signal, .id = steps.size()},
                        std::span(body).first(body.size() / 2),
                        std::span(body).subspan(body.size() / 2));
        }
      }
      const size_t bytes = out.fill(std::span(frame).first(1 + prng.below(frame.size())));
      ASSERT_TRUE(in.feed(std::span(frame).first(bytes), &got).ok());
    }
    EXPECT_EQ(out.message_bytes(), 0u);
    ASSERT_EQ(got.records.size(), steps.size() + messages.size());
    size_t step = 0;
    size_t message = 0;
    for (size_t i = 0; i < got.records.size(); ++i) {
      const bool is_step = got.records[i].type == RdmaRecordType::signal;
      ASSERT_EQ(got.records[i].id, is_step ? ++step : ++message);
      ASSERT_EQ(got.bodies[i], is_step ? steps[step - 1] : messages[message - 1]);
    }
  }
}

TEST(RdmaStream, StepsGoBeforeMessagesThatWait) {
  RdmaOutStream out;
  RdmaInStream in;
  Collector got;
  const std::vector<std::byte> body(100);
  for (uint64_t i = 0; i < 3; ++i) {
    out.push_message({.type = RdmaRecordType::message, .id = i}, body);
  }
  std::vector<std::byte> frame(1000);
  ASSERT_TRUE(in.feed(std::span(frame).first(out.fill(std::span(frame).first(50))), &got).ok());
  out.push_step({.type = RdmaRecordType::revoke, .id = 9});
  ASSERT_TRUE(in.feed(std::span(frame).first(out.fill(frame)), &got).ok());
  ASSERT_EQ(got.records.size(), 4u);
  EXPECT_EQ(got.records[0].id, 0u);  // begun, so it ends first
  EXPECT_EQ(got.records[1].id, 9u);
}

TEST(RdmaTransport, WithoutADeviceCreateSaysWhatToDo) {
  SystemClock clock;
  const auto loop = Loop::create({}, &clock);
  ASSERT_TRUE(loop.ok());
  RdmaOptions options;
  options.devices = {"no_such_device"};
  const auto refused = RdmaTransport::create(loop->get(), nullptr, options);
  ASSERT_EQ(refused.status().code(), StatusCode::kUnavailable);
  EXPECT_NE(refused.status().message().find("RDMA"), std::string::npos);
}

TEST(RdmaStream, NoiseIsRefused) {
  RdmaInStream in;
  Collector got;
  const std::vector<std::byte> noise(100, std::byte{0xFF});
  EXPECT_EQ(in.feed(noise, &got).code(), StatusCode::kInvalidArgument);
}
}  // namespace
}  // namespace terrace
