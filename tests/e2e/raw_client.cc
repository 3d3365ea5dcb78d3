#include "tests/e2e/raw_client.h"

#include <arpa/inet.h>
#include <google/protobuf/message_lite.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/identity.h"
#include "client/grpc_control.h"

namespace terrace::e2e {

RawConnection::RawConnection(uint16_t port)
    : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  TERRACE_CHECK(::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) ==
                0);
  const int one = 1;
  ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

void RawConnection::send(std::span<const std::byte> bytes) {
  // A node that closed meanwhile is what some tests want: no check.
  (void)!::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

void RawConnection::send(const FrameHeader& header, std::span<const std::byte> body) {
  send(encode(header));
  if (!body.empty()) send(body);
}

void RawConnection::send_hello(const SessionSecret& secret, uint32_t connection,
                               uint32_t connections) {
  const auto body = encode(Hello{secret, connection, connections});
  send({.type = FrameType::hello, .body_bytes = kHelloBytes}, body);
}

bool RawConnection::read_all(std::span<std::byte> into, int timeout_ms) {
  while (!into.empty()) {
    pollfd poll{socket_.get(), POLLIN, 0};
    if (::poll(&poll, 1, timeout_ms) <= 0) return false;
    const ssize_t n = ::recv(socket_.get(), into.data(), into.size(), 0);
    if (n <= 0) return false;
    into = into.subspan(static_cast<size_t>(n));
  }
  return true;
}

std::optional<RawFrame> RawConnection::receive(int timeout_ms) {
  FrameHeaderBytes bytes;
  if (!read_all(bytes, timeout_ms)) return std::nullopt;
  const StatusOr<FrameHeader> header = decode_header(bytes);
  EXPECT_TRUE(header.ok()) << header.status().to_string();
  if (!header.ok()) return std::nullopt;
  RawFrame frame;
  frame.header = *header;
  frame.body.resize(header->body_bytes);
  frame.payload.resize(header->payload_bytes);
  if (!read_all(frame.body, timeout_ms) || !read_all(frame.payload, timeout_ms)) {
    return std::nullopt;
  }
  return frame;
}

bool RawConnection::closed_by_peer(int timeout_ms) {
  std::vector<std::byte> dropped(65536);
  while (true) {
    pollfd poll{socket_.get(), POLLIN, 0};
    if (::poll(&poll, 1, timeout_ms) <= 0) return false;
    if (::recv(socket_.get(), dropped.data(), dropped.size(), 0) <= 0) return true;
  }
}

RawClient::RawClient(const std::string& endpoint, uint16_t data_port) {
  control_ = grpc_control(endpoint, "");
  auto offer = control_->open_session("default", seconds(5));
  TERRACE_CHECK(offer.ok());
  offer_ = *std::move(offer);
  for (uint32_t i = 0; i < 2; ++i) {
    connections_.push_back(std::make_unique<RawConnection>(data_port));
    connections_[i]->send_hello(offer_.secret, i, 2);
  }
  for (const auto& connection : connections_) {
    const auto answer = connection->receive();
    TERRACE_CHECK(answer.has_value() && answer->header.type == FrameType::hello_ok);
  }
  Fingerprint raw;
  raw.model_id = "raw";
  const auto ns = control_->open_namespace(offer_.secret, "test", canonical_bytes(raw), seconds(5));
  TERRACE_CHECK(ns.ok());
  ns_ = *ns;
}

void RawClient::send(MessageKind kind, uint64_t tag, const google::protobuf::MessageLite& body) {
  const std::string bytes = body.SerializeAsString();
  messages().send({.type = FrameType::message,
                   .kind = static_cast<uint16_t>(kind),
                   .tag = tag,
                   .body_bytes = static_cast<uint32_t>(bytes.size())},
                  std::as_bytes(std::span(bytes.data(), bytes.size())));
}

bool RawClient::receive(MessageKind kind, google::protobuf::MessageLite* body) {
  const auto frame = messages().receive();
  if (!frame || frame->header.type != FrameType::message) return false;
  EXPECT_EQ(frame->header.kind, static_cast<uint16_t>(kind));
  return body->ParseFromArray(frame->body.data(), static_cast<int>(frame->body.size()));
}

proto::FetchRequest fetch_of(const RawClient& client, const ChunkKey& key, uint64_t bytes) {
  const Fragment whole{0, RegionId{1}, 0, bytes};
  proto::FetchRequest request;
  request.set_namespace_id(client.ns());
  auto* item = request.add_items();
  item->set_key(pack_keys({&key, 1}));
  item->set_fragments(pack_fragments({&whole, 1}));
  return request;
}

proto::PutRequest put_of(const RawClient& client, const ChunkKey& key, uint64_t bytes) {
  const SectionSpec section{SectionKind::raw, Codec::identity, 0, bytes};
  const Fragment whole{0, RegionId{1}, 0, bytes};
  proto::PutRequest put;
  put.set_namespace_id(client.ns());
  put.set_key(pack_keys({&key, 1}));
  put.set_sections(pack_sections({&section, 1}));
  put.set_fragments(pack_fragments({&whole, 1}));
  return put;
}
}  // namespace terrace::e2e
