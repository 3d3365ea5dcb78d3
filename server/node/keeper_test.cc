// Goal: a keeper gives back what it was given to whom it was given by, and to nobody else; nothing
// that is sent to it makes it crash, hold more than it may, or live for ever; systemd's store is
// used as its protocol says. Method: a keeper on a thread, clients that keep to the protocol and
// some that do not; a socket that plays systemd.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <thread>

#include "base/memory_file.h"
#include "base/prng.h"
#include "server/node/fd_packet.h"
#include "server/node/keeper_client.h"
#include "server/node/keeper_process.h"
#include "server/node/systemd_store.h"
#include "server/node/view_board.h"
#include "transport/shm_link.h"

namespace terrace {
namespace {

constexpr std::array<std::byte, 16> kOwner{std::byte{7}};

ino_t inode_of(const Fd& file) {
  struct stat facts {};
  EXPECT_EQ(::fstat(file.get(), &facts), 0);
  return facts.st_ino;
}

Fd memory(const char* what = "kept") {
  return *make_memory_file(what, 4096);
}

class KeeperTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "keeper-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    ASSERT_EQ(::pipe2(stop_, O_CLOEXEC), 0);
  }
  void TearDown() override {
    end();
    std::filesystem::remove_all(directory_);
    ::close(stop_[0]);
    ::close(stop_[1]);
  }
  void serve(seconds linger = seconds(60)) {
    auto keeper = Keeper::listen({socket(), kOwner, linger});
    ASSERT_TRUE(keeper.ok()) << keeper.status().to_string();
    thread_ =
        std::thread([this, serving = *std::move(keeper)]() mutable { serving.serve(stop_[0]); });
  }
  void end() {
    if (!thread_.joinable()) return;
    EXPECT_EQ(::write(stop_[1], "x", 1), 1);
    thread_.join();
  }
  std::string socket() const { return directory_ + "/KEEPER"; }
  KeeperClient::Options options() const {
    KeeperClient::Options options;
    options.socket = socket();
    options.owner = kOwner;
    options.linger = seconds(60);
    return options;
  }
  std::unique_ptr<KeeperClient> client() {
    auto client = KeeperClient::connect(options());
    EXPECT_TRUE(client.ok()) << client.status().to_string();
    return *std::move(client);
  }
  /// A client that does not keep to the protocol.
  Fd raw() {
    Fd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    const auto address = parse_unix_address(socket());
    EXPECT_EQ(::connect(fd.get(), address->get(), address->length), 0);
    return fd;
  }

  std::string directory_;
  int stop_[2] = {-1, -1};
  std::thread thread_;
};

TEST_F(KeeperTest, gives_back_what_it_was_given) {
  serve();
  const Fd a = memory("a"), b = memory("b");
  {
    const auto first = client();
    ASSERT_TRUE(first->keep("slab-a", a).ok());
    ASSERT_TRUE(first->keep("slab-b", b).ok());
    EXPECT_EQ(first->keep("slab-a", b).code(), StatusCode::kAlreadyExists);
    EXPECT_EQ(first->keep("Slab/A", b).code(), StatusCode::kInvalidArgument);
  }
  const auto second = client();
  auto files = second->take_all();
  ASSERT_TRUE(files.ok());
  ASSERT_EQ(files->size(), 2u);
  EXPECT_EQ((*files)[0].name, "slab-a");
  EXPECT_EQ(inode_of((*files)[0].file), inode_of(a));
  EXPECT_EQ(inode_of((*files)[1].file), inode_of(b));
  second->forget("slab-a");
  second->forget("slab-c");  // was never there
  EXPECT_EQ(second->take_all()->size(), 1u);
  second->clear();
  EXPECT_TRUE(second->take_all()->empty());
}

TEST_F(KeeperTest, serves_one_data_directory) {
  serve();
  KeeperClient::Options other = options();
  other.owner = {std::byte{8}};
  EXPECT_EQ(KeeperClient::connect(other).status().code(), StatusCode::kFailedPrecondition);
  other.socket = directory_ + "/NOBODY";
  EXPECT_EQ(KeeperClient::connect(other).status().code(), StatusCode::kNotFound);
  struct stat facts {};
  ASSERT_EQ(::stat(socket().c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600u) << "its user's alone";
}

TEST_F(KeeperTest, ends_when_nobody_comes_and_when_nothing_is_kept) {
  serve(seconds(1));
  thread_.join();  // by itself
  EXPECT_FALSE(std::filesystem::exists(socket()));
  serve();
  EXPECT_TRUE(client()->keep("a", memory()).ok());
  client()->clear();
  thread_.join();
  EXPECT_FALSE(std::filesystem::exists(socket()));
}

TEST_F(KeeperTest, strangers_neither_end_it_nor_have_it_live_on) {
  serve(seconds(2));
  raw();
  EXPECT_TRUE(client()->keep("a", memory()).ok()) << "it is there after one that said nothing";
  std::vector<Fd> silent;
  silent.push_back(raw());
  KeeperClient::Options short_linger = options();
  short_linger.linger = seconds(1);
  ASSERT_TRUE(KeeperClient::connect(short_linger).ok());
  thread_.join();  // by itself, a second after its node
}

TEST_F(KeeperTest, hostile_packets_cost_their_sender_the_connection) {
  serve();
  const Fd file = memory();
  const auto good = client();
  ASSERT_TRUE(good->keep("a", file).ok());
  Prng prng(3);
  for (int round = 0; round < 300; ++round) {
    const Fd fd = raw();
    KeeperRequest request;
    request.verb = static_cast<KeeperVerb>(1 + prng.below(5));
    request.owner = kOwner;
    request.name = prng.chance(50) ? "a" : std::string(prng.below(140), 'x');
    std::string bytes = encode(request);
    if (prng.chance(70)) bytes[prng.below(bytes.size())] = static_cast<char>(prng.below(256));
    if (prng.chance(10)) bytes.resize(prng.below(bytes.size()));
    if (prng.chance(10)) bytes.resize(4000, 'y');
    // Before hello nothing is done, whatever it is.
    if (request.verb == KeeperVerb::hello) continue;
    (void)send_packet(fd, bytes, prng.chance(50) ? &file : nullptr);
    const auto reply = receive_packet(fd, kKeeperPacketBytesMax);
    if (!reply.ok()) continue;
    const auto decoded = decode_keeper_reply(reply->bytes);
    ASSERT_TRUE(decoded.ok());
    EXPECT_NE(decoded->code, StatusCode::kOk);
    EXPECT_FALSE(receive_packet(fd, kKeeperPacketBytesMax).ok()) << "it hangs up";
  }
  EXPECT_EQ(good->take_all()->size(), 1u);
}

TEST_F(KeeperTest, takes_few_clients_and_no_pipes) {
  serve();
  const auto good = client();
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const Fd in(ends[0]), out(ends[1]);
  EXPECT_EQ(good->keep("a", in).code(), StatusCode::kInvalidArgument);
  std::vector<Fd> many;
  for (int i = 0; i < 20; ++i) many.push_back(raw());
  EXPECT_TRUE(good->keep("a", memory()).ok()) << "those before are served on";
  EXPECT_EQ(client()->take_all()->size(), 1u) << "and silent ones make room";
}

TEST_F(KeeperTest, a_client_gives_a_keeper_up_that_is_gone) {
  serve();
  const auto good = client();
  end();
  EXPECT_EQ(good->keep("a", memory()).code(), StatusCode::kUnavailable);
  EXPECT_EQ(good->keep("a", memory()).code(), StatusCode::kUnavailable);
}

TEST(SystemdStoreTest, speaks_its_protocol) {
  std::string path = (std::filesystem::temp_directory_path() / "notify-XXXXXX").string();
  ASSERT_NE(::mkdtemp(path.data()), nullptr);
  SystemdFacts facts;
  EXPECT_EQ(SystemdStore::open(facts, kOwner).status().code(), StatusCode::kFailedPrecondition);
  facts.notify_socket = path + "/notify";
  facts.store_max = "1";
  const Fd systemd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto address = parse_unix_address(facts.notify_socket);
  ASSERT_EQ(::bind(systemd.get(), address->get(), address->length), 0);
  const auto store = SystemdStore::open(facts, kOwner);
  ASSERT_TRUE(store.ok()) << store.status().to_string();
  const Fd file = memory();
  ASSERT_TRUE((*store)->keep("slab-a", file).ok());
  auto said = receive_packet(systemd, 1000);
  ASSERT_TRUE(said.ok());
  const std::string name = "terrace-07000000000000000000000000000000-slab-a";
  EXPECT_EQ(said->bytes, "FDSTORE=1\nFDPOLL=0\nFDNAME=" + name + "\n");
  EXPECT_EQ(inode_of(said->file), inode_of(file));
  EXPECT_EQ((*store)->keep("slab-b", file).code(), StatusCode::kResourceExhausted);
  (*store)->forget("slab-a");
  said = receive_packet(systemd, 1000);
  ASSERT_TRUE(said.ok());
  EXPECT_EQ(said->bytes, "FDSTOREREMOVE=1\nFDNAME=" + name + "\n");
  std::filesystem::remove_all(path);

  // The next run: descriptors in a row, one of them another service's.
  facts.notify_socket = "@nobody-listens-here-" + std::to_string(::getpid());
  const Fd again(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto other = parse_unix_address(facts.notify_socket);
  ASSERT_EQ(::bind(again.get(), other->get(), other->length), 0);
  const int first = 700;
  ASSERT_EQ(::dup2(file.get(), first), first);
  ASSERT_EQ(::dup2(file.get(), first + 1), first + 1);
  facts.listen_pid = std::to_string(::getpid());
  facts.listen_fds = "2";
  facts.listen_names = "http:" + name;
  auto files = (*SystemdStore::open(facts, kOwner))->take_all(first);
  ASSERT_TRUE(files.ok());
  ASSERT_EQ(files->size(), 1u);
  EXPECT_EQ((*files)[0].name, "slab-a");
  EXPECT_EQ((*files)[0].file.get(), first + 1);
  EXPECT_EQ(::fcntl(first, F_GETFD), FD_CLOEXEC) << "not ours, and not for our children";
  ::close(first);
  facts.listen_names = "one";
  EXPECT_FALSE((*SystemdStore::open(facts, kOwner))->take_all(first).ok());
  facts.listen_pid = "1";  // for another process
  EXPECT_TRUE((*SystemdStore::open(facts, kOwner))->take_all(first)->empty());
}

TEST(SystemdStoreTest, facts_come_from_the_environment) {
  const char* const environment[] = {
      "PATH=/bin",        "LISTEN_FDS=3", "LISTEN_PID=77", "LISTEN_FDNAMES=a:b:c",
      "NOTIFY_SOCKET=@x", "FDSTORE=9",    nullptr};
  const SystemdFacts facts = systemd_facts(environment);
  EXPECT_EQ(facts.listen_fds, "3");
  EXPECT_EQ(facts.listen_pid, "77");
  EXPECT_EQ(facts.listen_names, "a:b:c");
  EXPECT_EQ(facts.notify_socket, "@x");
  EXPECT_EQ(facts.store_max, "9");
}

TEST(ViewBoardTest, a_board_that_is_taken_back_has_no_valid_view) {
  auto board = ViewBoard::create(1000);
  ASSERT_TRUE(board.ok());
  const uint32_t word = board->take();
  for (int i = 0; i < 3000; ++i) board->advance(word);
  const uint64_t before = board->value(word);
  const auto reader = *board->descriptor();
  auto next = ViewBoard::take_back(Fd(::dup(board->file().get())), 2000);
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(next->value(word), before + 1) << "past what it was, whatever the clock says";
  EXPECT_EQ(next->value(word + 1), 2000u);
  EXPECT_EQ(board->value(word), before + 1) << "who maps the old one sees it";
  EXPECT_FALSE(ViewBoard::take_back(memory(), 0).ok()) << "too small";
}
}  // namespace
}  // namespace terrace
