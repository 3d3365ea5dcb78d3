#include "server/node/keeper_client.h"

#include <spawn.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "server/node/keeper_process.h"
#include "transport/shm_link.h"

extern char** environ;

namespace terrace {
namespace {

constexpr time_t kPatienceSeconds = 2;

/// kNotFound: nobody listens there.
StatusOr<Fd> dial(const std::string& path) {
  TERRACE_ASSIGN_OR_RETURN(const SocketAddress address, parse_unix_address(path));
  Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return errno_status(errno, "a socket for " + path);
  const timeval patience{kPatienceSeconds, 0};
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
    (void)::setsockopt(socket.get(), SOL_SOCKET, option, &patience, sizeof(patience));
  }
  if (::connect(socket.get(), address.get(), address.length) == 0) return socket;
  if (errno == ENOENT || errno == ECONNREFUSED) {
    return error(StatusCode::kNotFound, "no keeper listens at " + path);
  }
  return errno_status(errno, "connecting to " + path);
}

/// Returns when the new keeper listens.
Status start(const KeeperClient::Options& options) {
  std::vector<std::string> words = {"terraced", "--keeper", options.socket,
                                    keeper_owner_text(options.owner),
                                    std::to_string(options.linger.count())};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t child = -1;
  const int failed =
      ::posix_spawn(&child, options.program.c_str(), nullptr, nullptr, arguments.data(), environ);
  if (failed != 0) return errno_status(failed, "starting a keeper: " + options.program);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return ok_status();
  return error(StatusCode::kUnavailable, "the keeper for " + options.socket + " did not start");
}
}  // namespace

StatusOr<std::unique_ptr<KeeperClient>> KeeperClient::connect(const Options& options) {
  StatusOr<Fd> socket = dial(options.socket);
  if (socket.status().code() == StatusCode::kNotFound && !options.program.empty()) {
    TERRACE_RETURN_IF_ERROR(start(options));
    socket = dial(options.socket);
  }
  TERRACE_RETURN_IF_ERROR(socket.status());
  TERRACE_RETURN_IF_ERROR(check_peer_is_us(*socket));
  auto client = std::unique_ptr<KeeperClient>(new KeeperClient(std::move(*socket)));
  KeeperRequest hello;
  hello.owner = options.owner;
  hello.linger_s = static_cast<uint32_t>(options.linger.count());
  FdPacket answer;
  std::string text;
  if (const Status said = client->call(hello, nullptr, &answer, &text); !said.ok()) {
    return error(said.code(), "keeper at " + options.socket + ": " + said.message());
  }
  return client;
}

/// A keeper that answers nonsense, or not at all, is not asked again: whose answer would come next?
Status KeeperClient::call(const KeeperRequest& request, const Fd* file, FdPacket* answer,
                          std::string* text) {
  const std::lock_guard lock(mutex_);
  if (!socket_) return error(StatusCode::kUnavailable, "the keeper is gone");
  Status sent = send_packet(socket_, encode(request), file);
  StatusOr<FdPacket> packet =
      sent.ok() ? receive_packet(socket_, kKeeperPacketBytesMax) : StatusOr<FdPacket>(sent);
  StatusOr<KeeperReply> reply =
      packet.ok() ? decode_keeper_reply(packet->bytes) : StatusOr<KeeperReply>(packet.status());
  if (!reply.ok()) {
    spdlog::warn("event=keeper_lost error=\"{}\"", reply.status().to_string());
    socket_.reset();
    return error(StatusCode::kUnavailable, reply.status().message());
  }
  *answer = std::move(*packet);
  *text = reply->text;
  return reply->code == StatusCode::kOk ? ok_status() : error(reply->code, reply->text);
}

StatusOr<std::vector<KeptFile>> KeeperClient::take_all() {
  std::vector<KeptFile> files;
  KeeperRequest take;
  take.verb = KeeperVerb::take;
  for (take.index = 0; take.index < kKeptFilesMax; ++take.index) {
    FdPacket answer;
    std::string name;
    const Status got = call(take, nullptr, &answer, &name);
    if (got.code() == StatusCode::kNotFound) break;
    TERRACE_RETURN_IF_ERROR(got);
    if (!answer.file) return error(StatusCode::kUnavailable, "the keeper gave no file");
    files.push_back({std::move(name), std::move(answer.file)});
  }
  return files;
}

Status KeeperClient::keep(const std::string& name, const Fd& file) {
  KeeperRequest request;
  request.verb = KeeperVerb::keep;
  request.name = name;
  FdPacket answer;
  std::string text;
  return call(request, &file, &answer, &text);
}

void KeeperClient::forget(const std::string& name) {
  KeeperRequest request;
  request.verb = KeeperVerb::forget;
  request.name = name;
  FdPacket answer;
  std::string text;
  (void)call(request, nullptr, &answer, &text);  // one that is gone keeps nothing
}

void KeeperClient::clear() {
  KeeperRequest request;
  request.verb = KeeperVerb::clear;
  FdPacket answer;
  std::string text;
  (void)call(request, nullptr, &answer, &text);
}
}  // namespace terrace
