// transport/verbs_handles.h - owners of verbs resources. Members of a class die bottom-up, which is
// the order that verbs demands: regions and queue pairs, queues, channel, domain, context.
#pragma once
#include <infiniband/verbs.h>

#include "base/handle.h"

namespace terrace {

// A device that was unplugged answers EIO to everything, so a failed destruction is no bug of ours.
template <class T, int (*Destroy)(T*)>
struct VerbsTraits {
  using Raw = T*;
  static Raw null() { return nullptr; }
  static void close(Raw raw) { (void)Destroy(raw); }
};
using VerbsContext = Handle<VerbsTraits<ibv_context, ibv_close_device>>;
using VerbsDomain = Handle<VerbsTraits<ibv_pd, ibv_dealloc_pd>>;
using VerbsChannel = Handle<VerbsTraits<ibv_comp_channel, ibv_destroy_comp_channel>>;
using VerbsCompletionQueue = Handle<VerbsTraits<ibv_cq, ibv_destroy_cq>>;
using VerbsReceiveQueue = Handle<VerbsTraits<ibv_srq, ibv_destroy_srq>>;
using VerbsQueuePair = Handle<VerbsTraits<ibv_qp, ibv_destroy_qp>>;
using VerbsAddress = Handle<VerbsTraits<ibv_ah, ibv_destroy_ah>>;
using VerbsMemory = Handle<VerbsTraits<ibv_mr, ibv_dereg_mr>>;
}  // namespace terrace
