// tests/e2e/shared_scenario.h - what nodes that share a place do for clients, whatever the place
// is: a directory (shared_test) or a bucket (tests/s3).
#pragma once
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/e2e/harness.h"

namespace terrace::e2e {

/// Ends with the right, or without because the chunk is there.
inline StatusOr<ComputeRight> generate(TestClient* client, const std::string& name,
                                       std::chrono::milliseconds deadline) {
  GenerateOptions options;
  options.deadline = deadline;
  TERRACE_ASSIGN_OR_RETURN(
      const OpId op, client->sdk().generate_or_wait(client->ns(), client->key(name), options));
  TERRACE_ASSIGN_OR_RETURN(const Completion done,
                           client->sdk().wait(op, deadline + std::chrono::seconds(10)));
  if (!done.status.ok()) return done.status;
  return done.right;
}

/// One client per node asks for the same `chunks`: each of those is computed once, and everybody
/// gets its bytes.
inline void expect_computed_once(const std::vector<std::unique_ptr<NodeProcess>>& nodes, int chunks,
                                 uint64_t bytes, std::chrono::milliseconds deadline) {
  std::vector<std::unique_ptr<TestClient>> clients;
  for (const auto& node : nodes) {
    clients.push_back(std::make_unique<TestClient>(node->endpoint()));
  }
  std::atomic<int> computed{0};
  std::vector<std::thread> threads;
  for (auto& client : clients) {
    threads.emplace_back([&computed, chunks, bytes, deadline, mine = client.get()] {
      for (int i = 0; i < chunks; ++i) {
        const std::string name = "g" + std::to_string(i);
        const auto right = generate(mine, name, deadline);
        ASSERT_TRUE(right.ok()) << right.status().to_string();
        if (*right) {
          ++computed;
          ASSERT_EQ(mine->put(name, bytes, Durability::shared), StatusCode::kOk);
          mine->sdk().release_right(*right);
        } else {
          EXPECT_EQ(mine->fetch(name, bytes), StatusCode::kOk);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(computed.load(), chunks);
}
}  // namespace terrace::e2e
