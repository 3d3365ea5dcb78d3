// tools/cli/connection.h - a client session, a namespace and the admin service, as commands need
// them. Everything blocks, bounded by --timeout-ms. Single-threaded.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "client/terrace.h"
#include "proto/control.pb.h"
#include "tools/cli/command.h"

namespace terrace {

/// The namespace of `put` and `get` when none is named.
inline constexpr const char* kFilesNamespace = "files";
/// Raw objects: any sections, keyed by name.
Fingerprint files_fingerprint();

/// The nodes of --node, which are separated by commas.
std::vector<std::string> node_names(const Globals& globals);
/// What --node, --tenant, --token-file and --timeout-ms ask for. kNotFound, kInvalidArgument: the
/// token file.
StatusOr<ClientConfig> client_config(const Globals& globals);
StatusOr<std::unique_ptr<Client>> connect(const Globals& globals);

/// Opens `name` without changing it: with the fingerprint that the node has stored. `files` is
/// created when it is missing; any other is kNotFound then, and the message names those that exist.
StatusOr<NamespaceId> open_existing(const Globals& globals, Client* client,
                                    const std::string& name);
/// The key for what a person wrote: "key:" and 64 hex digits, or the object's name.
StatusOr<ChunkKey> key_for(const Client& client, NamespaceId ns, const std::string& text);

/// Submits nothing: waits for `op` (or passes its refusal on) and gives its completion, whatever
/// its status. The operation's own deadline bounds the wait.
StatusOr<Completion> finish(Client* client, const StatusOr<OpId>& op, const Globals& globals);

/// Of one node: kInvalidArgument when --node names several.
StatusOr<proto::NodeStatusReply> node_status(const Globals& globals);
/// One of its counters; 0 when there is none of that name.
uint64_t counter_of(const proto::NodeStatusReply& status, const std::string& name);
/// Of all nodes that answer, objects and bytes summed up; an error when none does.
StatusOr<std::vector<proto::ListNamespacesReply::Namespace>> list_namespaces(
    const Globals& globals);

/// "dram, nvme"; "none".
std::string tiers_text(TierMask tiers);
}  // namespace terrace
