#include "server/node/status_counters.h"

#include <string>

#include "server/node/device_lender.h"
#include "server/node/view_table.h"
#include "transport/rdma_transport.h"
#include "transport/shm_transport.h"

namespace terrace {
namespace {

using Counters = google::protobuf::Map<std::string, uint64_t>;

void count_store(const StoreMetrics& m, Counters* out) {
  (*out)["puts_committed"] = m.puts_committed.get();
  (*out)["puts_deduplicated"] = m.puts_deduplicated.get();
  (*out)["puts_refused_space"] = m.puts_refused_space.get();
  (*out)["puts_refused_quota"] = m.puts_refused_quota.get();
  (*out)["puts_refused_in_flight"] = m.puts_refused_in_flight.get();
  (*out)["puts_refused_device"] = m.puts_refused_device.get();
  (*out)["puts_refused_invalid"] = m.puts_refused_invalid.get();
  (*out)["hbm_errors"] = m.hbm_errors.get();
  (*out)["crc_failures_hbm"] = m.crc_failures_hbm.get();
  (*out)["crc_failures_dram"] = m.crc_failures_dram.get();
  (*out)["crc_failures_nvme"] = m.crc_failures_nvme.get();
  (*out)["quarantined_objects"] = m.quarantined_objects.get();
  (*out)["device_errors"] = m.device_errors.get();
  (*out)["evictions_dram"] = m.evictions[static_cast<size_t>(Tier::dram)].get();
  (*out)["evictions_nvme"] = m.evictions[static_cast<size_t>(Tier::nvme)].get();
  (*out)["promotions"] = m.promotions.get();
  (*out)["warm_slabs"] = m.warm_slabs.get();
  (*out)["warm_objects"] = m.warm_objects.get();
  (*out)["warm_us"] = m.warm_us.get();
  (*out)["warm_verified_objects"] = m.warm_verified_objects.get();
  (*out)["warm_failed_objects"] = m.warm_failed_objects.get();
}

void count_shared(const SharedMetrics& m, Counters* out) {
  (*out)["shared_hits"] = m.hits.get();
  (*out)["shared_publishes"] = m.publishes.get();
  (*out)["shared_demotions"] = m.demotions.get();
  (*out)["shared_evictions_unshared"] = m.evictions_unshared.get();
  (*out)["shared_quarantined"] = m.quarantined.get();
  (*out)["shared_listings"] = m.listings.get();
  (*out)["shared_generations_granted"] = m.generations_granted.get();
  (*out)["shared_generations_found"] = m.generations_found.get();
  (*out)["shared_generations_late"] = m.generations_late.get();
  (*out)["shared_swept_objects"] = m.swept_objects.get();
  (*out)["shared_trash_emptied"] = m.trash_emptied.get();
  (*out)["shared_leftovers_removed"] = m.leftovers_removed.get();
  (*out)["shared_fenced"] = m.fenced.get();
  for (size_t i = 0; i < kSharedFailures; ++i) {
    const std::string reason = name_of(static_cast<SharedFailure>(i));
    (*out)["shared_misses_" + reason] = m.misses[i].get();
    (*out)["shared_publish_failures_" + reason] = m.publish_failures[i].get();
  }
}

void count_transports(const NodeContext& context, Counters* out) {
  if (context.views != nullptr) {
    const ViewMetrics& views = context.views->metrics();
    (*out)["views"] = views.views.get();
    (*out)["device_borrowers"] = context.lender->borrowers().get();
    (*out)["views_device"] = views.device.get();
    (*out)["view_bytes"] = views.bytes.get();
    (*out)["views_revoked"] = views.revoked.get();
    const ShmMetrics& shm = context.shm->metrics();
    (*out)["shm_bytes_sent"] = shm.bytes_out.get();
    (*out)["shm_bytes_bounced"] = shm.bytes_bounced.get();
    (*out)["shm_slabs_lent"] = shm.files_shared.get();
  }
  if (context.rdma != nullptr) {
    (*out)["rdma_bytes_sent"] = context.rdma->metrics().bytes_out.get();
    (*out)["rdma_bytes_bounced"] = context.rdma->metrics().bounced_bytes.get();
    (*out)["rdma_registrations_flying"] = context.rdma->metrics().registrations_flying.get();
  }
}
}  // namespace

void fill_counters(const NodeContext& context, proto::NodeStatusReply* reply) {
  Counters* const out = reply->mutable_counters();
  count_store(context.store->metrics(), out);
  count_shared(context.store->metrics().shared, out);
  (*out)["keys_looked_up"] = context.counters->keys_looked_up.get();
  (*out)["protocol_errors"] = context.counters->protocol_errors.get();
  count_transports(context, out);
}
}  // namespace terrace
