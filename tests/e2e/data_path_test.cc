// Goal: a client takes the fastest path that works, and one that does not work costs it nothing but
// time: never the session, never its secret. Method: real nodes; sockets that are gone, or that
// somebody else listens on.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "base/handle.h"
#include "tests/e2e/harness.h"
#include "transport/tcp_address.h"

namespace terrace::e2e {
namespace {

ClientConfig by(const NodeProcess& node, DataPath path) {
  ClientConfig config = TestClient::config(node.endpoint());
  config.data_path = path;
  return config;
}

DataPath path_taken(const NodeProcess& node, DataPath asked) {
  const auto client = Client::open(by(node, asked));
  EXPECT_TRUE(client.ok()) << client.status().to_string();
  return client.ok() ? (*client)->nodes().at(0).data_path : DataPath::automatic;
}

TEST(DataPathTest, SharedMemoryWhereTheNodeIsOnThisHost) {
  NodeProcess node({});
  EXPECT_EQ(path_taken(node, DataPath::automatic), DataPath::shm);
  EXPECT_EQ(path_taken(node, DataPath::tcp), DataPath::tcp);
  EXPECT_EQ(path_taken(node, DataPath::shm), DataPath::shm);
}

/// A name that is looked up, and leads to where the node listens; empty: none does here.
std::string name_of_loopback() {
  char host[256] = "";
  (void)::gethostname(host, sizeof(host) - 1);
  for (const std::string& name : {std::string(host), std::string("LOCALHOST")}) {
    const StatusOr<std::string> found = resolve_address(name + ":1");
    if (found.ok() && *found == "127.0.0.1:1") return name;
  }
  return "";
}

TEST(DataPathTest, TcpToANodeThatIsConfiguredByItsHostName) {
  const std::string name = name_of_loopback();
  if (name.empty()) GTEST_SKIP() << "no name but \"localhost\" leads to 127.0.0.1 here";
  NodeProcess node({});
  ClientConfig config = TestClient::config(name + ":" + std::to_string(node.control_port()));
  config.data_path = DataPath::tcp;
  TestClient client(config);
  EXPECT_EQ(client.sdk().nodes().at(0).endpoint, config.endpoints[0]);
  ASSERT_EQ(client.put("by name", 100'000, Durability::memory), StatusCode::kOk);
  EXPECT_EQ(client.fetch("by name", 100'000), StatusCode::kOk);
}

TEST(DataPathTest, TcpWhereTheNodeOffersNothingElse) {
  NodeProcess node({"--shm", "false"});
  EXPECT_EQ(path_taken(node, DataPath::automatic), DataPath::tcp);
  const auto refused = Client::open(by(node, DataPath::shm));
  EXPECT_EQ(refused.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(refused.status().message().find("option shm"), std::string::npos);
}

TEST(DataPathTest, TcpWhereTheSocketIsGone) {
  ScratchDirectory scratch;
  const std::string socket = scratch.path() + "/node.sock";
  NodeProcess node({"--shm-socket", socket});
  EXPECT_EQ(path_taken(node, DataPath::automatic), DataPath::shm);
  ASSERT_EQ(::unlink(socket.c_str()), 0);
  EXPECT_EQ(path_taken(node, DataPath::automatic), DataPath::tcp);
  EXPECT_FALSE(Client::open(by(node, DataPath::shm)).ok());
}

TEST(DataPathTest, TcpWhereSomebodyElseListensAndHangsUp) {
  ScratchDirectory scratch;
  const std::string socket = scratch.path() + "/node.sock";
  NodeProcess node({"--shm-socket", socket});
  ASSERT_EQ(::unlink(socket.c_str()), 0);
  const Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, socket.data(), socket.size());
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(::listen(listener.get(), 8), 0);
  std::thread other([&] {
    const Fd caller(::accept(listener.get(), nullptr, nullptr));
    char hello[56];
    EXPECT_GT(::recv(caller.get(), hello, sizeof(hello), 0), 0);
  });
  EXPECT_EQ(path_taken(node, DataPath::automatic), DataPath::tcp);
  other.join();
}

TEST(DataPathTest, RdmaSaysWhatIsMissing) {
  NodeProcess node({});
  const auto refused = Client::open(by(node, DataPath::rdma));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), StatusCode::kUnavailable);
  EXPECT_NE(refused.status().message().find("RDMA"), std::string::npos)
      << refused.status().to_string();
}
}  // namespace
}  // namespace terrace::e2e
