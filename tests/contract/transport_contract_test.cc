// Goal: tcp keeps the contract of transport/transport.h, alone and as a member of a set.
// Method: the sources *_contract.cc beside it.
#include "tests/contract/transport_pair.h"
#include "transport/shm_transport.h"
#include "transport/tcp_transport.h"
#include "transport/transport_set.h"

namespace terrace {
namespace {

TransportFactory tcp(uint32_t connections, bool zero_copy) {
  const auto connect = [connections, zero_copy](Side* a, Side* b, uint32_t queue_max) {
    TcpOptions options;
    options.zero_copy = zero_copy;
    options.send_queue_bytes_max = queue_max;
    options.socket_buffer_bytes = 256 * 1024;  // so that a frozen peer is felt soon
    auto client = std::make_unique<TcpTransport>(a->loop.get(), a, options);
    auto server = std::make_unique<TcpTransport>(b->loop.get(), b, options);
    const StatusOr<uint16_t> port =
        server->listen("127.0.0.1:0", [](std::span<const std::byte, 16>) { return true; });
    ASSERT_TRUE(port.ok()) << port.status().to_string();
    CountingOp connected;
    const StatusOr<PeerId> peer =
        client->connect("127.0.0.1:" + std::to_string(*port), {}, connections,
                        a->loop->now() + seconds(5), &connected);
    ASSERT_TRUE(peer.ok()) << peer.status().to_string();
    while (connected.runs == 0) {
      a->loop->turn(microseconds(50));
      b->loop->turn(microseconds(50));
    }
    ASSERT_TRUE(connected.result.ok()) << connected.result.to_string();
    a->peer = *peer;
    a->transport = std::move(client);
    b->transport = std::move(server);
  };
  return {.name = "tcp" + std::to_string(connections) + (zero_copy ? "zc" : ""),
          .connect = connect};
}

/// `node_is_a`: the side that writes is the one that listens, as a node does; else the one that
/// called.
TransportFactory shm(bool node_is_a) {
  const auto connect = [node_is_a](Side* a, Side* b, uint32_t queue_max) {
    static int sockets = 0;
    ShmOptions options;
    options.send_queue_bytes_max = queue_max;
    options.same_user_allowed = true;
    Side* const node = node_is_a ? a : b;
    Side* const caller = node_is_a ? b : a;
    auto server = std::make_unique<ShmTransport>(node->loop.get(), node, options, nullptr);
    auto client = std::make_unique<ShmTransport>(caller->loop.get(), caller, options, nullptr);
    const std::string name =
        "@terrace-contract-" + std::to_string(::getpid()) + "-" + std::to_string(++sockets);
    const Status listens =
        server->listen(name, [](std::span<const std::byte, 16>) { return true; });
    ASSERT_TRUE(listens.ok()) << listens.to_string();
    CountingOp connected;
    const StatusOr<PeerId> peer =
        client->connect(name, ::geteuid(), {}, caller->loop->now() + seconds(5), &connected);
    ASSERT_TRUE(peer.ok()) << peer.status().to_string();
    while (connected.runs == 0) {
      a->loop->turn(microseconds(50));
      b->loop->turn(microseconds(50));
    }
    ASSERT_TRUE(connected.result.ok()) << connected.result.to_string();
    caller->peer = *peer;
    node->transport = std::move(server);
    caller->transport = std::move(client);
  };
  return {.name = node_is_a ? "shm_node" : "shm_caller", .connect = connect};
}

/// The same as a member of a set.
TransportFactory in_a_set(TransportKind kind, const TransportFactory& alone) {
  const auto connect = [kind, alone](Side* a, Side* b, uint32_t queue_max) {
    alone.connect(a, b, queue_max);
    for (Side* side : {a, b}) {
      if (side->transport == nullptr) return;  // the failure is on record
      side->inner = std::move(side->transport);
      auto set = std::make_unique<TransportSet>(side->loop.get());
      set->add(kind, side->inner.get());
      side->transport = std::move(set);
    }
  };
  return {.name = "set_of_" + alone.name, .connect = connect};
}

INSTANTIATE_TEST_SUITE_P(All, TransportContract,
                         testing::Values(tcp(2, false), tcp(3, true), tcp(5, false), shm(true),
                                         shm(false), in_a_set(TransportKind::tcp, tcp(3, false))),
                         [](const auto& param_info) { return param_info.param.name; });
}  // namespace
}  // namespace terrace
