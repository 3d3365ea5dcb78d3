// client/core.h - what is behind a Client: the loop's thread, the worker's thread, and the calls
// that check arguments on the engine's thread before they post to the loop. Thread-safe.
#pragma once
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
#include "client/terrace.h"
#include "client/views.h"
#include "client/worker.h"

namespace terrace {

class Client::Core {
 public:
  Core(const ClientConfig& config, std::unique_ptr<ControlChannel> control);
  /// close() must have been called.
  ~Core();
  /// Starts the threads and waits for the first connect.
  Status open();
  void close();
  /// False in a process that forked: nothing here may be touched then.
  bool in_this_process() const;

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
  StatusOr<OpId> erase(NamespaceId ns, std::span<const ChunkKey> keys, const OpOptions& options);
  StatusOr<OpId> list(NamespaceId ns, const std::string& cursor, uint32_t limit,
                      const OpOptions& options);

  StatusOr<OpId> view(NamespaceId ns, std::span<const ChunkKey> keys, const OpOptions& options);

  Status source_ready(OpId put, uint32_t item, uint32_t first, uint32_t count);
  void cancel(OpId op);
  void release(LeaseId lease);
  void touch(NamespaceId ns, std::span<const ChunkKey> keys);
  void release_view(ViewId view);
  const Views& views() const { return views_; }

  Completions& completions() { return completions_; }
  ClientStatistics statistics() const { return counters_.snapshot(); }
  NodeInfo node() const;

 private:
  using Info = std::shared_ptr<const NamespaceInfo>;
  void run(std::promise<Status>* started);
  void close_on_loop(std::promise<void>* closed);
  /// Posts even when the mailbox is full, by trying again.
  void post_surely(Task task);
  StatusOr<uint32_t> open_on_worker(const Info& info, Nanos timeout);
  /// Runs `work` on the loop and waits for its value, at most open_timeout.
  template <class Work>
  auto on_loop(Work work) -> std::invoke_result_t<Work>;
  /// kFailedPrecondition (forked, closed), kUnavailable (the node is skipped).
  Status check_usable() const;
  Status check_submit(const OpOptions& options) const;
  StatusOr<OpId> submit(std::unique_ptr<ClientOp> op, NamespaceId ns, const OpOptions& options,
                        std::vector<uint32_t> put_sections = {});

  const ClientConfig config_;
  const pid_t pid_;
  const SystemClock clock_;
  const std::unique_ptr<ControlChannel> control_;
  ClientCounters counters_;
  NamespaceBook namespaces_;
  MemoryTable regions_;
  Completions completions_;
  Views views_;
  Worker worker_;
  std::atomic<bool> closed_{false};
  std::mutex close_mutex_;  // one close() at a time
  std::promise<Status> first_attempt_;
  std::promise<void> farewell_;  // the destructor has let go of the loop

  // Made and destroyed by the loop's thread; set while it runs, which is all the time between a
  // good open() and the destructor.
  Loop* loop_ = nullptr;
  Operations* operations_ = nullptr;
  NodeSession* session_ = nullptr;
  Links* links_ = nullptr;
  std::thread thread_;
};
}  // namespace terrace
