// Goal: rdma keeps the contract of transport/transport.h, on one path and on several.
// Method: the sources *_contract.cc beside it, both sides in this process on the same devices; the
// endpoint bytes are handed over directly. Skipped where there is no RDMA device (it is run in a
// virtual machine that has one, .ci/run).
#include "tests/contract/transport_pair.h"
#include "transport/rdma_transport.h"
#include "transport/transport_set.h"

namespace terrace {
namespace {

TransportFactory rdma(std::string name, RdmaOptions options) {
  const auto connect = [options](Side* a, Side* b, uint32_t queue_max) {
    RdmaOptions each = options;
    each.send_queue_bytes_max = queue_max;
    each.release_timeout = milliseconds(100);
    auto client = RdmaTransport::create(a->loop.get(), a, each);
    auto server = RdmaTransport::create(b->loop.get(), b, each);
    ASSERT_TRUE(client.ok()) << client.status().to_string();
    ASSERT_TRUE(server.ok()) << server.status().to_string();
    const auto asked = (*client)->open({});
    ASSERT_TRUE(asked.ok()) << asked.status().to_string();
    const auto answered = (*server)->accept({}, asked->endpoint);
    ASSERT_TRUE(answered.ok()) << answered.status().to_string();
    CountingOp connected;
    const Status started = (*client)->establish(asked->peer, answered->endpoint,
                                                a->loop->now() + seconds(5), &connected);
    ASSERT_TRUE(started.ok()) << started.to_string();
    while (connected.runs == 0) {
      a->loop->turn(microseconds(50));
      b->loop->turn(microseconds(50));
    }
    ASSERT_TRUE(connected.result.ok()) << connected.result.to_string();
    a->peer = asked->peer;
    a->transport = *std::move(client);
    b->transport = *std::move(server);
  };
  const auto unavailable = [options] {
    SystemClock clock;
    const auto loop = Loop::create({}, &clock);
    struct : TransportHandler {
      void on_peer(PeerId, std::span<const std::byte, 16>) override {}
      void on_message(PeerId, const Message&) override {}
      bool accept_write(PeerId, const IncomingWrite&, std::vector<uint32_t>*) override {
        return false;
      }
      void on_write(PeerId, const IncomingWrite&) override {}
      Status accept_read(PeerId, uint64_t, std::span<const RemoteSpan>) override { return {}; }
      void on_peer_closed(PeerId, const Status&) override {}
    } nobody;
    const auto probe = RdmaTransport::create(loop->get(), &nobody, options);
    if (!probe.ok()) return probe.status().message();
    CountingOp closed;
    (*probe)->close(&closed);
    while (closed.runs == 0) (*loop)->turn(milliseconds(1));
    return std::string();
  };
  return {.name = std::move(name), .connect = connect, .unavailable = unavailable};
}

INSTANTIATE_TEST_SUITE_P(All, TransportContract,
                         testing::Values(rdma("one_path", {.devices = {}, .paths_max = 1}),
                                         rdma("all_paths", {})),
                         [](const auto& param_info) { return param_info.param.name; });
}  // namespace
}  // namespace terrace
