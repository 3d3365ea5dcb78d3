#include "proto/retention_hints.h"

#include <algorithm>

namespace terrace {

void pack_retention(const Retention& retention, proto::RetentionHints* out) {
  out->set_priority(static_cast<uint32_t>(retention.priority));
  out->set_ttl_s(static_cast<uint64_t>(retention.ttl.count()));
  out->set_pin(retention.pin);
  out->set_type(retention.type);
  out->set_turn(retention.turn);
  out->set_session(retention.session);
}

StatusOr<Retention> unpack_retention(const proto::RetentionHints& hints) {
  constexpr uint32_t kUnknownPriority = 255;
  Retention out;
  out.priority =
      static_cast<RetentionPriority>(std::min<uint32_t>(hints.priority(), kUnknownPriority));
  // What does not fit a signed number is as wrong as what is over the limit.
  const auto ttl_max = static_cast<uint64_t>(kRetentionTtlMax.count());
  out.ttl = std::chrono::seconds(static_cast<int64_t>(std::min(hints.ttl_s(), ttl_max + 1)));
  out.pin = hints.pin();
  out.type = hints.type();
  out.turn = hints.turn();
  out.session = hints.session();
  TERRACE_RETURN_IF_ERROR(out.validate());
  return out;
}
}  // namespace terrace
