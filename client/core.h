// client/core.h - what is behind a Client: the loop's thread, the worker's thread, and the calls
// that check arguments on the engine's thread before they post to the loop. Thread-safe.
#pragma once
#include <condition_variable>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

#include "client/completions.h"
#include "client/control_channel.h"
#include "client/counters.h"
#include "client/namespaces.h"
#include "client/operations.h"
#include "client/regions.h"
#include "client/session.h"
#include "client/split.h"
#include "client/terrace.h"
#include "client/views.h"
#include "client/worker.h"

namespace terrace {

class Client::Core {
 public:
  /// One control channel for each endpoint.
  Core(const ClientConfig& config, std::vector<std::unique_ptr<ControlChannel>> controls);
  /// close() must have been called.
  ~Core();
  /// Starts the threads and waits until a node answers.
  Status open();
  void close();
  /// False in a process that forked: nothing here may be touched then.
  bool in_this_process() const;
  /// kFailedPrecondition there.
  Status check_process() const;

  StatusOr<NamespaceId> open_namespace(const std::string& name, const Fingerprint& fingerprint);
  StatusOr<RegionId> register_memory(std::span<std::byte> memory);
  Status unregister_memory(RegionId region);
  StatusOr<std::vector<ChunkKey>> prefix_keys(NamespaceId ns, std::span<const uint32_t> tokens,
                                              uint32_t shard, std::string_view extra) const;
  StatusOr<ChunkKey> raw_key(NamespaceId ns, std::string_view key) const;

  // client/submit.cc
  StatusOr<OpId> lookup(NamespaceId ns, std::span<const ChunkKey> keys,
                        const LookupOptions& options);
  StatusOr<OpId> match_prefix(NamespaceId ns, std::span<const GroupKeys> groups,
                              const LookupOptions& options);
  StatusOr<OpId> fetch(NamespaceId ns, std::span<const FetchItem> items,
                       const FetchOptions& options);
  StatusOr<OpId> put(NamespaceId ns, std::span<const PutItem> items, const PutOptions& options);
  StatusOr<OpId> generate_or_wait(NamespaceId ns, const ChunkKey& key,
                                  const GenerateOptions& options);
  void release_right(const ComputeRight& right);
  StatusOr<OpId> erase(NamespaceId ns, std::span<const ChunkKey> keys, const OpOptions& options);
  StatusOr<OpId> list(NamespaceId ns, const std::string& cursor, uint32_t limit,
                      const OpOptions& options);

  StatusOr<OpId> view(NamespaceId ns, std::span<const ChunkKey> keys, const OpOptions& options,
                      bool device);

  Status source_ready(OpId put, uint32_t item, uint32_t first, uint32_t count);
  void cancel(OpId op);
  void release(LeaseId lease);
  void touch(NamespaceId ns, std::span<const ChunkKey> keys);
  void release_view(ViewId view);
  const Views& views() const { return views_; }

  Completions& completions() { return completions_; }
  ClientStatistics statistics() const { return counters_.snapshot(); }
  std::vector<NodeInfo> nodes() const;

 private:
  using Info = std::shared_ptr<const NamespaceInfo>;
  using MakePart = std::function<StatusOr<std::unique_ptr<ClientOp>>(const Share& share)>;
  /// What one node has for itself. Its control calls block, so they have a thread of their own: a
  /// node that does not answer keeps only itself waiting.
  struct Node {
    std::unique_ptr<ControlChannel> control;
    std::unique_ptr<Worker> worker;
    NodeSession* session = nullptr;  // as loop_ below
  };
  void run(std::promise<Status>* started);
  void close_on_loop(std::promise<void>* closed);
  /// Posts even when the mailbox is full, by trying again.
  void post_surely(Task task);
  /// Runs `work` on the loop for each node's session; waits for it.
  void for_sessions(const std::function<void(NodeSession*)>& work);
  /// Only in calls that may block.
  static void pause_caller(Nanos time);
  void first_attempt(uint32_t node, const Status& result);
  Status first_answers();
  struct Opening;
  void open_on_worker(uint32_t node, const Info& info, Nanos timeout,
                      const std::shared_ptr<Opening>& opening);
  void open_late(uint32_t node, const Info& info, NamespaceId ns);
  StatusOr<NamespaceId> open_on_all(const Info& info, Nanos timeout);
  bool skipped(uint32_t node) const {
    return nodes_[node].session->state() == NodeSession::State::skipped;
  }
  bool all_skipped() const;
  /// kFailedPrecondition (forked, closed).
  Status check_usable() const;
  /// As above, and kUnavailable: all nodes are skipped; kInvalidArgument.
  Status check_submit(const OpOptions& options) const;
  StatusOr<std::unique_ptr<ClientOp>> make_fetch(const Info& info, std::span<const FetchItem> items,
                                                 const Share& share, const FetchOptions& options);
  StatusOr<std::unique_ptr<ClientOp>> make_put(const Info& info, std::span<const PutItem> items,
                                               const Share& share, const PutOptions& options,
                                               std::vector<uint32_t>* sections);
  StatusOr<ClientOp::Head> begin(NamespaceId ns, const OpOptions& options,
                                 std::vector<uint32_t> put_sections);
  StatusOr<OpId> submit(std::unique_ptr<ClientOp> op, NamespaceId ns, const OpOptions& options,
                        std::vector<uint32_t> put_sections = {});

  // client/submit_shares.cc

  /// kUnavailable: all the nodes of these shares are skipped.
  Status check_reachable(std::span<const Share> shares) const;
  /// One operation of what `make` makes of each share, in their order: as it is, when there is one.
  /// `put_sections`, of a put, is read after that.
  StatusOr<OpId> submit_shares(Join::Parts join, NamespaceId ns, const OpOptions& options,
                               const MakePart& make, std::vector<uint32_t>* put_sections = nullptr);
  /// The same for requests that are made of keys.
  StatusOr<OpId> submit_keys(
      NamespaceId ns, std::span<const ChunkKey> keys, const OpOptions& options,
      const std::function<std::unique_ptr<ClientOp>(std::span<const ChunkKey>)>& make,
      std::function<void(Completion*)> conclude = nullptr);

  const ClientConfig config_;
  const pid_t pid_;
  const SystemClock clock_;
  const Rendezvous owners_;
  std::vector<Node> nodes_;  // as config_.endpoints; never changes its length
  ClientCounters counters_;
  NamespaceBook namespaces_;
  MemoryTable regions_;
  Completions completions_;
  Views views_;
  std::atomic<bool> closed_{false};
  std::mutex close_mutex_;  // one close() at a time
  std::mutex open_mutex_;
  std::condition_variable answered_;
  std::vector<Status> first_answers_;  // in the order they came; guarded by open_mutex_
  std::promise<void> farewell_;        // the destructor has let go of the loop

  // Made and destroyed by the loop's thread; set while it runs, which is all the time between a
  // good open() and the destructor.
  Loop* loop_ = nullptr;
  Operations* operations_ = nullptr;
  Links* links_ = nullptr;
  std::thread thread_;
};
}  // namespace terrace
