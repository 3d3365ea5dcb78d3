// client/request_op.h - operations that are one request and one reply: lookup, match_prefix, erase,
// list, view. Made on the engine's thread from copies; loop thread afterwards.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "client/client_op.h"

namespace google::protobuf {
class MessageLite;
}

namespace terrace {

class RequestOp final : public ClientOp {
 public:
  struct Parts {
    MessageKind request_kind;
    MessageKind reply_kind;
    /// Fills in the namespace and returns what to send.
    std::function<const google::protobuf::MessageLite&(uint32_t ns)> request;
    /// kInternal when the reply does not fit the request.
    std::function<Status(Operations*, uint32_t node, const Message&, Completion*)> read;
    /// Gives every key its code when no reply did.
    std::function<void(StatusCode, Completion*)> give_up;
  };
  explicit RequestOp(Parts parts) : parts_(std::move(parts)) {}
  void on_message(uint32_t sub, const Message& message) override;

 private:
  Status on_start(uint32_t ns) override;
  void fill(const Status& why, Completion* completion) override;

  Parts parts_;
  uint64_t tag_ = 0;
  bool replied_ = false;
  Completion result_;
};

// All of them. Arguments were checked.
std::unique_ptr<ClientOp> make_lookup(std::span<const ChunkKey> keys, uint32_t lease_ms);
std::unique_ptr<ClientOp> make_match(std::span<const GroupKeys> groups, uint32_t lease_ms);
std::unique_ptr<ClientOp> make_erase(std::span<const ChunkKey> keys);
/// Where a list goes on: a node, of so many, and the last key there, 32 bytes, or empty.
struct ListPlace {
  uint32_t node = 0;
  uint32_t nodes = 1;
  std::string after;
};
std::unique_ptr<ClientOp> make_list(const ListPlace& place, uint32_t limit);
std::unique_ptr<ClientOp> make_view(std::span<const ChunkKey> keys, bool device);
std::unique_ptr<ClientOp> make_generate(const ChunkKey& key, uint32_t deadline_ms,
                                        uint32_t hold_ms);
/// The node's number of the lease that a reply nobody waits for has granted; 0: none.
uint64_t lease_granted_by(const Message& message);
/// A reply that nobody waits for gives a right to compute.
bool grants_right(const Message& message);
/// The node's ids of the views that a reply nobody waits for has granted.
std::vector<uint64_t> view_ids_of(const Message& message);

/// A cursor is the last key in hex, with several nodes behind the node's place and a colon:
/// printable, and checked when it comes back. `place` is on the node `node`, or past the last.
std::string cursor_of(const ListPlace& place);
/// An empty cursor is the beginning. kInvalidArgument.
StatusOr<ListPlace> parse_cursor(const std::string& cursor, uint32_t nodes);
}  // namespace terrace
