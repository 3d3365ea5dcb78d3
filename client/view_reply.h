// client/view_reply.h - reads what a node says of a view: every place is looked up in memory that
// it lent, nothing is taken on trust. Pure.
#pragma once
#include <functional>
#include <memory>

#include "client/views.h"
#include "proto/data.pb.h"

namespace terrace {

/// A memory file that the node lent, as mapped here; null: none.
using LentFile = std::function<std::shared_ptr<const ShmMapping>(uint64_t file)>;

/// Fills in all of `held` but its key, its peer and its device; with a device the sections lie in
/// that. kInternal or kInvalidArgument: pieces of no lent memory or outside of it, that do not make
/// up the sections, or checksums that do not match their number.
Status read_view(const proto::ViewReply::View& from, const LentFile& lent, Views::Held* held);
}  // namespace terrace
