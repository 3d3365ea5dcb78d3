// client/terrace.h - the SDK: the one page that an engine's author reads.
//
//   auto client = terrace::Client::open({.endpoints = {"10.0.0.1:7410", "10.0.0.2:7410"}});
//   auto ns = (*client)->open_namespace("llama-8b", fingerprint);
//   auto region = (*client)->register_memory(kv_memory);
//   auto op = (*client)->fetch(*ns, items, {});
//   auto ready = (*client)->wait_layer(*op, layer, 5s);   // or poll layers_ready
//   auto result = (*client)->wait(*op, 5s);
//
// Rules that hold for every call:
// - Thread-safe. Submitting calls never block and never touch the network: they copy what
//   describes the work, borrow the data memory, and return an OpId, or refuse with a reason.
// - Every operation completes exactly once, by its deadline, also when the node dies or freezes.
//   Nothing calls back into the engine: completions wait to be drained, an eventfd says when.
// - Completed means no further access to your memory, whatever the code: done, cancelled, expired.
// - One operation may name keys of many nodes: it has one id, one completion, and codes in the
//   order of its keys. A node that is dead or skipped costs the keys that lie there, no others; one
//   that is silent also holds up layers, until three operations expired and it is skipped.
// - kNotFound, kDataLoss, kAborted, kUnavailable and kDeadlineExceeded on a key mean "compute it".
//   Destination bytes of a key whose code is not kOk are undefined; kNotFound leaves them alone.
// - No exceptions cross this surface. A process that forked must open its own client: calls on the
//   parent's are refused with kFailedPrecondition.
#pragma once
#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/chunk_key.h"
#include "base/geometry.h"
#include "base/identity.h"
#include "base/region.h"
#include "base/retention.h"
#include "base/status.h"

namespace terrace {

class Accelerator;  // kernels/accelerator.h

enum class OpId : uint64_t {};
enum class LeaseId : uint64_t {};  // 0: none
inline constexpr LeaseId kNoLease{0};
enum class ViewId : uint64_t {};  // 0: none

/// Lanes of the node, most urgent first.
enum class Priority : uint8_t { load = 0, prefetch = 1, store = 2 };

/// How bytes travel. `automatic`: shared memory when the node is on this host and offers it, else
/// TCP; a path that fails falls back. The others: that one or none. RDMA has to be asked for: it
/// registers the engine's memory with the card, which needs RLIMIT_MEMLOCK.
enum class DataPath : uint8_t { automatic, tcp, shm, rdma };

struct ClientConfig {
  /// The nodes' control ports, host:port; at most kNodesMax (64). Which node owns a key follows
  /// from these words alone, so every client must call a node by the same ones; their order is
  /// free.
  std::vector<std::string> endpoints = {"127.0.0.1:7410"};
  std::string tenant = "default";
  std::string token;  // empty only against a node in --dev
  DataPath data_path = DataPath::automatic;
  uint32_t data_connections = 2;  // per node, 1 to 15; of TCP
  std::chrono::milliseconds open_timeout{5'000};
  std::chrono::milliseconds default_deadline{10'000};  // for operations that name none
  uint32_t operations_max = 1024;  // in flight; one more is refused, kResourceExhausted
  bool verify = true;              // check every delivered byte; off only to measure it
  /// Where the client's data thread runs, as in "0-3,8"; empty: anywhere. It checks and, over
  /// shared memory, copies what comes: best a core of its own, near the memory it fills.
  std::string cpus;
  /// So long after its last event it looks for work before it sleeps: up to 1 s; costs the core.
  std::chrono::microseconds poll_for{0};
  /// The engine's own GPU, for device_view(): kernels/cuda_accelerator.h makes one. Null: no such
  /// views.
  std::shared_ptr<Accelerator> accelerator;
  Status validate() const;
};

struct OpOptions {
  std::chrono::milliseconds deadline{0};  // from now; 0: the client's default
  Priority priority = Priority::load;
  uint64_t user_tag = 0;  // comes back in the completion
};

struct LookupOptions : OpOptions {
  std::chrono::milliseconds lease{0};  // 0: a probe, which never extends a life; at most 60 s
};

/// How a group's keys must be present for a prefix to count (hybrid attention, engines' groups).
struct GroupKeys {
  std::span<const ChunkKey> keys;  // one per chunk of the prefix, first to last
  uint32_t trailing = 0;           // 0: all of them; n: only the last n of the prefix
};

/// One plane of an engine's paged KV cache: block b of it is the `block_bytes` bytes at
/// `offset + b * block_stride` of `region`. A pool is a list of them, one for each K and V plane
/// that the namespace's geometry has, in any order. It describes every layout in which one block
/// of one plane is contiguous: layers apart or together, K and V apart or interleaved by block,
/// tokens or heads first.
struct PoolSegment {
  uint16_t layer = 0;
  SectionKind kind = SectionKind::k_plane;
  RegionId region{};
  uint64_t offset = 0;
  uint64_t block_stride = 0;  // bytes, at least block_bytes
  uint64_t block_bytes = 0;   // tokens per block * bytes per token of the plane
};

/// One object to fetch into registered memory: with `fragments`, or, of a namespace of chunks,
/// with `block_ids`, never both.
struct FetchItem {
  ChunkKey key;
  std::span<const Fragment> fragments{};  // what goes where; any order, may leave gaps
  /// The chunk's part of the block table, first token to last: blocks of the options' pool.
  /// No block twice in one fetch; segments whose blocks overlap in memory are the engine's mistake.
  std::span<const uint32_t> block_ids{};
};

struct FetchOptions : OpOptions {
  LeaseId lease = kNoLease;             // from a lookup: eviction cannot turn it into a miss
  std::span<const PoolSegment> pool{};  // for items with block_ids
};

/// One object to store out of registered memory. The sections lie one after the other, without
/// padding, in the object's logical bytes; the fragments must cover them exactly once, or
/// `block_ids` say in which blocks of the options' pool the chunk's tokens lie.
struct PutItem {
  ChunkKey key;
  std::span<const SectionSpec> sections{};  // empty: the namespace's full chunk
  std::span<const Fragment> fragments{};
  std::string_view raw_key{};  // raw objects: the engine's own key, kept for `ls`
  std::span<const uint32_t> block_ids{};
  /// What the node's policy weighs against the object's bytes and the odds of its use: what
  /// computing it again would take, its place in the prompt included (a later chunk attends to more
  /// tokens); 0: unknown, the node guesses by the size.
  uint64_t recompute_us = 0;
  float importance = 1;  // 0 to 1: the share of that which its loss would cost
  /// How long it is to be kept, and how dearly. Of an object that is there already: ignored.
  Retention retention{};
};

struct PutOptions : OpOptions {
  PutOptions() { priority = Priority::store; }  // a decode that waits for it may say load
  std::span<const PoolSegment> pool{};          // for items with block_ids
  Durability durability = Durability::memory;   // what done(OK) means
  /// False: the node reads a section only after source_ready() named it, so that an engine can
  /// save layer by layer while it computes.
  bool sources_ready = true;
};

struct GenerateOptions : OpOptions {
  /// A right is lost after that; longer than the chunk takes to compute and to put. <= 10 minutes.
  std::chrono::milliseconds hold{60'000};
};

/// The right to compute one chunk, of all clients of all nodes that share a tier.
struct ComputeRight {
  uint64_t id = 0;     // 0: none
  uint64_t token = 0;  // higher than that of every earlier holder
  uint32_t node = 0;
  explicit operator bool() const { return id != 0; }
};

/// What a lookup says of one key.
struct KeyInfo {
  StatusCode code = StatusCode::kNotFound;  // kOk or kNotFound, or why it cannot be known
  TierMask tiers = 0;
  uint32_t sections = 0;  // 0: only the shared tier has it, and the node has not looked into it
  uint64_t bytes = 0;     // logical
  uint32_t load_us = 0;   // the node's estimate for the first byte, queue included
};

/// An object as `list` shows it.
struct ObjectEntry {
  ChunkKey key;
  std::string raw_key;
  KeyInfo info;
};

/// One section of an object in view, in order of its bytes.
struct ViewedSection {
  SectionSpec spec;
  std::vector<std::span<const std::byte>> pieces;
};
/// An object where it lies in the node's memory, mapped read-only; or in its device memory.
struct ObjectView {
  ViewId id{};             // 0: the key's code says why there is none
  bool on_device = false;  // pieces are device addresses: for kernels and copies, not for the CPU
  std::vector<ViewedSection> sections;
};

/// A part of the node's memory that views lie in, as mapped read-only into this process.
struct ViewMemory {
  uint64_t id = 0;                    // of this mapping in this client; no other ever gets it
  std::span<const std::byte> memory;  // whole pages
  std::shared_ptr<const void> held;   // stays mapped here while a copy of this is left
};

struct Completion {
  OpId op{};
  uint64_t user_tag = 0;
  Status status;                      // what went wrong first; a miss only when nothing else did
  std::vector<StatusCode> key_codes;  // fetch, put, erase, view: one per item
  std::vector<KeyInfo> keys;          // lookup, match_prefix: one per key
  std::vector<ObjectEntry> entries;   // list
  std::vector<ObjectView> views;      // view: one per key
  std::string cursor;                 // list: where to go on; empty at the end, and only there
  uint32_t longest = 0;               // match_prefix: chunks from the start
  std::vector<bool> restorable;       // match_prefix: [i]: a prefix of i + 1 chunks can be had
  LeaseId lease = kNoLease;           // lookup, match_prefix
  ComputeRight right;                 // generate_or_wait; none: the chunk is there
  uint64_t bytes = 0;                 // delivered and verified, or stored
  std::array<uint64_t, kTierCount> tier_bytes{};  // of those, by the tier they came from
  std::chrono::nanoseconds elapsed{0};            // from submit to completion
};

struct ClientStatistics {  // totals since open
  uint64_t operations = 0, completed_ok = 0, misses = 0, expired = 0, cancelled = 0, failed = 0;
  uint64_t bytes_fetched = 0, bytes_stored = 0, bytes_verified = 0;
  uint64_t crc_failures = 0, puts_deduplicated = 0, reconnects = 0;
};

/// What a node said of itself when its session opened.
struct NodeInfo {
  std::string node_id;
  std::string version;
  uint64_t boot_id = 0;
  DataPath data_path = DataPath::automatic;  // of the present session; automatic: none yet
  std::string endpoint{};                    // as the config names it
  bool up = false;                           // has a session now
};

class ControlChannel;  // client/control_channel.h

class Client {
 public:
  /// Connects; bounded by open_timeout. One node that answers is enough: those that do not within a
  /// second of the first are skipped until they do. kInvalidArgument (config), kUnavailable (no
  /// node there), kUnauthenticated, kFailedPrecondition (protocol version; names both sides).
  static StatusOr<std::unique_ptr<Client>> open(const ClientConfig& config);
  /// The same over other control planes, one for each endpoint, for tests.
  static StatusOr<std::unique_ptr<Client>> open(
      const ClientConfig& config, std::vector<std::unique_ptr<ControlChannel>> controls);
  /// Same as close().
  ~Client();
  /// Ends every outstanding operation as kCancelled, quiesces, and lets go of the memory.
  /// Completions stay drainable until the client is destroyed. Idempotent.
  void close();

  // Control: these block, bounded by open_timeout.

  /// Opens or creates `name` in the client's tenant, on every node; one that does not answer gets
  /// it when it comes back. kFailedPrecondition when it exists with another fingerprint: the
  /// message names the field and both values.
  StatusOr<NamespaceId> open_namespace(const std::string& name, const Fingerprint& fingerprint);
  /// `memory` (host) must stay mapped until unregister_memory returned OK or the client closed.
  /// kResourceExhausted over kRegionsPerSessionMax, or over RLIMIT_MEMLOCK (the message says what
  /// to do); kDeadlineExceeded when a network card needs longer than open_timeout.
  StatusOr<RegionId> register_memory(std::span<std::byte> memory);
  /// kFailedPrecondition while an operation uses it, kNotFound when it is not registered.
  Status unregister_memory(RegionId region);

  // Keys of a namespace this client opened.

  /// Keys of the full chunks of `tokens`; a partial tail has none.
  StatusOr<std::vector<ChunkKey>> prefix_keys(NamespaceId ns, std::span<const uint32_t> tokens,
                                              uint32_t shard = 0,
                                              std::string_view extra = {}) const;
  /// At most kRawKeyBytesMax bytes, else kInvalidArgument.
  StatusOr<ChunkKey> raw_key(NamespaceId ns, std::string_view key) const;

  // Submitting calls. kInvalidArgument (a fragment outside its region, a pool that does not fit the
  // geometry, too many keys: the message names the limit), kResourceExhausted (operations_max, or 4
  // times as many completions that nobody took), kFailedPrecondition (closed, forked), kUnavailable
  // at once while every node that the keys lie on is being skipped: it failed three times in a row
  // and is probed in the background. With other keys beside them, those of a skipped node have this
  // code at once.

  StatusOr<OpId> lookup(NamespaceId ns, std::span<const ChunkKey> keys,
                        const LookupOptions& options);
  /// The longest prefix, and every shorter one, for which all groups hold what they need. Chunks of
  /// a node that does not answer count as missing; the status says so.
  StatusOr<OpId> match_prefix(NamespaceId ns, std::span<const GroupKeys> groups,
                              const LookupOptions& options);
  StatusOr<OpId> fetch(NamespaceId ns, std::span<const FetchItem> items,
                       const FetchOptions& options);
  StatusOr<OpId> put(NamespaceId ns, std::span<const PutItem> items, const PutOptions& options);
  /// Sections [first, first + count) of item `item` of a put with sources_ready = false now hold
  /// their bytes. kNotFound when the put has ended.
  Status source_ready(OpId put, uint32_t item, uint32_t first, uint32_t count);
  /// For a chunk that nobody has: gives the right to compute it to one of all clients of all nodes
  /// that share a tier; the others wait for it within their deadline. OK with a right: compute the
  /// chunk, put it with Durability::shared, then release_right(). OK without: it is there, fetch
  /// it. kDeadlineExceeded: somebody still computes it; kUnavailable: no shared tier, or it does
  /// not answer: compute it yourself, which is never wrong. A right ends after options.hold, and
  /// with the session: then another client gets one. When a node is killed that takes its lease's
  /// time.
  StatusOr<OpId> generate_or_wait(NamespaceId ns, const ChunkKey& key,
                                  const GenerateOptions& options);
  /// The chunk was put, or will not be: the next one may have the right. Never fails for the
  /// caller.
  void release_right(const ComputeRight& right);
  StatusOr<OpId> erase(NamespaceId ns, std::span<const ChunkKey> keys, const OpOptions& options);
  /// At most `limit` (<= 512) objects after `cursor`, node after node, in each node's order. A page
  /// may be short or empty while the cursor is not. When a node fails, the status says so and the
  /// cursor leads to the next one.
  StatusOr<OpId> list(NamespaceId ns, const std::string& cursor, uint32_t limit,
                      const OpOptions& options);
  /// Objects where they lie, without a copy; only over shared memory (DataPath::shm). Each key has
  /// a view, or a code: kNotFound; kFailedPrecondition (in a slower tier: fetch it);
  /// kResourceExhausted (the node's quota of views: release some, or fetch). A view pins the
  /// object's bytes until release_view(), until the connection ends, or, under pressure, until it
  /// is revoked: so copy out what you need, then ask view_valid(), then use the copy. An engine
  /// that computes in place must not use views. A completion that carries views must be taken.
  StatusOr<OpId> view(NamespaceId ns, std::span<const ChunkKey> keys, const OpOptions& options);
  /// As view(), of the copies in the device memory of a node on this host, opened by CUDA IPC
  /// through ClientConfig::accelerator. Keys without a copy there: kFailedPrecondition (fetching
  /// them may bring one), as all are on a node that keeps its hbm tier for no one tenant, or for
  /// another. Copy to your own blocks on a stream, wait for the stream, then ask view_valid(). The
  /// memory is mapped writable, for CUDA has nothing else: who writes there damages what others of
  /// the tenant read. Release views soon: a node cannot resize its hbm tier before.
  StatusOr<OpId> device_view(NamespaceId ns, std::span<const ChunkKey> keys,
                             const OpOptions& options);
  /// Whether everything that was read of the view before this call is the object's. False once it
  /// was revoked or released, or its node is gone. Never blocks on the network.
  bool view_valid(ViewId view) const;
  /// Reads the whole view and checks it against the object's checksums. kDataLoss, kAborted
  /// (revoked), kNotFound (released).
  Status verify(ViewId view) const;
  /// The view is read no more: the node may use the memory again at once.
  void release_view(ViewId view);
  /// The mappings that views of this client lie in, so that an engine can register each once with
  /// its GPU (kernels/host_registration.h) and copy from where views lie; docs/operations.md says
  /// how. A mapping appears with its first view, at the latest when that view's completion can be
  /// taken, and goes when the node takes the memory back or the session ends, once no view lies in
  /// it: then unregister it and drop `held`, because until then the machine cannot have the memory
  /// back. `held` outlives the client. A mapping says nothing of views: ask view_valid() as ever.
  std::vector<ViewMemory> view_memory() const;
  /// Another number whenever view_memory() has another answer: what an engine asks per completion.
  uint64_t view_memory_version() const;
  /// A request: the operation still completes once, kCancelled or with what it had.
  void cancel(OpId op);
  /// Lets the node evict again. Never fails for the caller.
  void release(LeaseId lease);
  /// A hint at the end of a request: its chunks, loaded and stored, in prefix order (at most
  /// kKeysPerRequestMax; the first ones count). They become the youngest, the head last, so that
  /// under LRU a prefix loses its tail first. Never fails for the caller.
  void touch(NamespaceId ns, std::span<const ChunkKey> keys);

  // Completions.

  /// Of a fetch: layers 0 .. n-1 of the need order are whole and verified for every key that can
  /// still succeed, over all nodes. Lock-free; the engine may read those bytes at once. 0 for an
  /// unknown op; after its completion was taken, the last word or 0. A raw object is one layer. A
  /// key that fails while its node goes on holds it at the first layer it lacks until that node is
  /// through with its other keys. After that, or at once when the node is lost or skipped, the key
  /// is lost: it holds nothing up any more, and keys_lost() names it before layers_ready() passes
  /// it. So whoever polls asks keys_lost() after this, and reads no byte of a lost key;
  /// wait_layer() does that by itself.
  uint32_t layers_ready(OpId fetch) const;
  /// Keys of a fetch that are given up, as indexes of its items; once it has ended, all whose code
  /// is not kOk. Before the end only fetches over several nodes have any. kNotFound: unknown, or
  /// its completion was taken, whose key_codes then say it; no list is not an empty list.
  StatusOr<std::vector<uint32_t>> keys_lost(OpId fetch) const;
  /// Blocks until layers_ready(op) > layer, or the operation has ended. OK: the layer is whole for
  /// every key. Otherwise, when a key is lost, why the first one was: if layers_ready(op) > layer,
  /// the layer is there for all keys but keys_lost(op), and the engine may go on with those.
  /// kDeadlineExceeded after `timeout`; the operation's own code once it has ended without the
  /// layer.
  Status wait_layer(OpId fetch, uint32_t layer, std::chrono::milliseconds timeout);
  /// Readable while completions wait. Owned by the client.
  int event_fd() const;
  /// Takes up to out.size() completions; returns how many.
  size_t drain(std::span<Completion> out);
  /// Blocks for one operation and takes its completion (drain will not return it). kNotFound: never
  /// started or already taken; kDeadlineExceeded after `timeout`: the operation goes on.
  StatusOr<Completion> wait(OpId op, std::chrono::milliseconds timeout);

  ClientStatistics statistics() const;
  /// In the order of the config's endpoints.
  std::vector<NodeInfo> nodes() const;

 private:
  class Core;
  explicit Client(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};
}  // namespace terrace
