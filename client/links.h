// client/links.h - the transports that a client may reach its node by, behind one. Loop thread.
#pragma once
#include "transport/shm_transport.h"
#include "transport/tcp_transport.h"
#include "transport/transport_set.h"

namespace terrace {

struct Links {
  Links(Loop* loop, TransportHandler* handler)
      : tcp(loop, handler, {}), shm(loop, handler, {}, nullptr), all(loop) {
    all.add(TransportKind::tcp, &tcp);
    all.add(TransportKind::shm, &shm);
  }
  TcpTransport tcp;
  ShmTransport shm;
  TransportSet all;
};
}  // namespace terrace
