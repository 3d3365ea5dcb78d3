#include "server/node/warm_restart.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/log.h"
#include "server/node/systemd_store.h"
#include "storage/slab.h"

namespace terrace {
namespace {

constexpr const char* kBoardName = "views";

/// A keeper changes its directory, so its socket has an absolute name.
std::string socket_of(const NodeConfig& config) {
  const std::string name =
      config.keeper_socket.empty() ? config.store.data_directory + "/KEEPER" : config.keeper_socket;
  return std::filesystem::absolute(name).string();
}

KeeperClient::Options options_of(const NodeConfig& config, const std::array<std::byte, 16>& owner) {
  KeeperClient::Options options;
  options.socket = socket_of(config);
  options.owner = owner;
  options.linger = config.keeper_linger;
  return options;
}

/// The memory of an earlier run would be held beside ours until the keeper gives up.
void end_keeper(const NodeConfig& config, const std::array<std::byte, 16>& owner) {
  if (config.store.data_directory.empty()) return;
  const auto left = KeeperClient::connect(options_of(config, owner));
  if (!left.ok()) return;  // mostly there is none
  (*left)->clear();
  spdlog::info("event=kept_memory_let_go socket={}", socket_of(config));
}

/// The same for systemd, which gave us all that it stores.
void empty_systemd_store(const NodeConfig& config, const std::array<std::byte, 16>& owner) {
  const auto store = SystemdStore::open(config.systemd, owner);
  if (!store.ok()) return;
  const auto files = (*store)->take_all();
  if (!files.ok()) return;
  for (const KeptFile& file : *files) (*store)->forget(file.name);
}

bool use_systemd(const NodeConfig& config) {
  if (config.warm_restart == "systemd") return true;
  const SystemdFacts& facts = config.systemd;
  const bool stores = !facts.store_max.empty() && facts.store_max != "0";
  return config.warm_restart == "auto" && !facts.notify_socket.empty() && stores;
}
}  // namespace

StatusOr<std::unique_ptr<WarmRestart>> WarmRestart::open(const NodeConfig& config,
                                                         const std::array<std::byte, 16>& owner) {
  auto warm = std::unique_ptr<WarmRestart>(new WarmRestart());
  warm->owner_ = owner;
  const bool by_systemd = use_systemd(config);
  const bool by_keeper = config.warm_restart != "off" && !by_systemd;
  if (!by_keeper) end_keeper(config, owner);
  if (!by_systemd) empty_systemd_store(config, owner);
  if (by_systemd) {
    TERRACE_ASSIGN_OR_RETURN(auto store, SystemdStore::open(config.systemd, owner));
    TERRACE_ASSIGN_OR_RETURN(warm->files_, store->take_all());
    warm->keeper_ = std::move(store);
  } else if (by_keeper) {
    KeeperClient::Options options = options_of(config, owner);
    options.program = "/proc/self/exe";
    TERRACE_RETURN_IF_ERROR(warm->use_keeper(options));
  }
  return warm;
}

/// One that does not answer costs a cold start, not the node. One that is another's is a mistake
/// of whoever configured it.
Status WarmRestart::use_keeper(const KeeperClient::Options& options) {
  auto client = KeeperClient::connect(options);
  StatusOr<std::vector<KeptFile>> files =
      client.ok() ? (*client)->take_all() : StatusOr<std::vector<KeptFile>>(client.status());
  if (files.status().code() == StatusCode::kUnavailable) {
    spdlog::warn("event=no_keeper error=\"{}\" what=\"dram starts empty and ends with the node\"",
                 files.status().to_string());
    return ok_status();
  }
  if (!files.ok()) return files.status();
  files_ = *std::move(files);
  keeper_ = *std::move(client);
  return ok_status();
}

void WarmRestart::let_go(std::vector<KeptFile> files) {
  for (const KeptFile& file : files) {
    keeper_->forget(file.name);
    struct stat facts {};
    if (::fstat(file.file.get(), &facts) != 0) continue;
    give_memory_back(file.file, static_cast<uint64_t>(facts.st_size));
  }
}

StatusOr<ViewBoard> WarmRestart::take_board(uint64_t first_value) {
  if (keeper_ == nullptr) return ViewBoard::create(first_value);
  const auto old = std::find_if(files_.begin(), files_.end(),
                                [](const KeptFile& file) { return file.name == kBoardName; });
  if (old != files_.end()) {
    KeptFile file = std::move(*old);
    files_.erase(old);
    StatusOr<ViewBoard> board = ViewBoard::take_back(std::move(file.file), first_value);
    if (board.ok()) return board;
    spdlog::warn("event=views_not_taken_back error=\"{}\"", board.status().to_string());
    keeper_->forget(kBoardName);
  }
  if (!files_.empty()) {
    spdlog::warn("event=slabs_let_go slabs={} error=\"there is no board of their views\"",
                 files_.size());
    let_go(std::exchange(files_, {}));
  }
  TERRACE_ASSIGN_OR_RETURN(ViewBoard board, ViewBoard::create(first_value));
  // Before any slab is: with one that is not kept, the next run takes nothing back.
  TERRACE_RETURN_IF_ERROR(keeper_->keep(kBoardName, board.file()));
  return board;
}

SlabKeeping WarmRestart::take_slabs(const NamespaceTable& namespaces) {
  SlabKeeping keeping;
  keeping.keeper = keeper_.get();
  keeping.owner = owner_;
  keeping.files = std::exchange(files_, {});
  for (const auto& ns : namespaces.all()) keeping.namespaces.emplace_back(ns->id, ns->domain);
  return keeping;
}
}  // namespace terrace
