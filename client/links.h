// client/links.h - the transports that a client may reach its node by, behind one. Loop thread.
#pragma once
#include <memory>

#include "client/terrace.h"
#include "transport/rdma_transport.h"
#include "transport/shm_transport.h"
#include "transport/tcp_transport.h"
#include "transport/transport_set.h"

namespace terrace {

struct Links {
  /// RDMA is set up only for a client that asks for it; `rdma_status` says why it is not there.
  Links(Loop* loop, TransportHandler* handler, DataPath path)
      : tcp(loop, handler, {}), shm(loop, handler, {}, nullptr), all(loop) {
    all.add(TransportKind::tcp, &tcp);
    all.add(TransportKind::shm, &shm);
    if (path != DataPath::rdma) return;
    StatusOr<std::unique_ptr<RdmaTransport>> made = RdmaTransport::create(loop, handler, {});
    rdma_status = made.status();
    if (!made.ok()) return;
    rdma = *std::move(made);
    all.add(TransportKind::rdma, rdma.get());
  }
  TcpTransport tcp;
  ShmTransport shm;
  std::unique_ptr<RdmaTransport> rdma;  // null: not asked for, or not there
  Status rdma_status;
  TransportSet all;
};
}  // namespace terrace
