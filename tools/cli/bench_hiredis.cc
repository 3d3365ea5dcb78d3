#include "tools/cli/bench_hiredis.h"

#include <hiredis/hiredis.h>

#include <cstring>

namespace terrace {
namespace {
struct FreeReply {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using Reply = std::unique_ptr<redisReply, FreeReply>;

Status gone(const redisContext* context) {
  return error(StatusCode::kUnavailable,
               std::string("redis: ") + (context == nullptr ? "no context" : context->errstr));
}
}  // namespace

void HiredisClient::Close::operator()(redisContext* context) const {
  redisFree(context);
}
HiredisClient::HiredisClient(HiredisClient&&) noexcept = default;
HiredisClient& HiredisClient::operator=(HiredisClient&&) noexcept = default;
HiredisClient::~HiredisClient() = default;

StatusOr<HiredisClient> HiredisClient::connect(uint16_t port) {
  const timeval timeout{10, 0};
  HiredisClient client(redisConnectWithTimeout("127.0.0.1", port, timeout));
  redisContext* const context = client.context_.get();
  if (context == nullptr || context->err != 0) return gone(context);
  if (redisSetTimeout(context, timeout) != REDIS_OK) return gone(context);
  return client;
}

StatusOr<uint64_t> HiredisClient::fetch(const Work& work, std::span<std::byte> into,
                                        Nanos* elapsed) {
  const SystemClock clock;
  const Nanos begin = clock.now();
  redisContext* const context = context_.get();
  uint64_t asked = 0;
  uint64_t received = 0;
  const auto ask = [&] {
    const std::string key = "v" + std::to_string(asked++ % work.values);
    return redisAppendCommand(context, "GET %s", key.c_str()) == REDIS_OK;
  };
  while (asked < work.in_flight) {
    if (!ask()) return gone(context);
  }
  for (; received < asked; ++received) {
    void* raw = nullptr;
    if (redisGetReply(context, &raw) != REDIS_OK) return gone(context);
    const Reply reply(static_cast<redisReply*>(raw));
    if (reply->type != REDIS_REPLY_STRING || reply->len != work.value_bytes) {
      return error(StatusCode::kDataLoss, "redis: a value is not what was stored");
    }
    std::memcpy(into.data() + received % work.values * work.value_bytes, reply->str, reply->len);
    if (clock.now() - begin < work.duration && !ask()) return gone(context);
  }
  *elapsed = clock.now() - begin;
  return received * work.value_bytes;
}
}  // namespace terrace
