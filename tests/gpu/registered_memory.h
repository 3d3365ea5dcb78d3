// tests/gpu/registered_memory.h - what an engine does with Client::view_memory(): one registration
// per mapping, for as long as it is named. Thread-confined.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "client/terrace.h"
#include "kernels/host_registration.h"

namespace terrace::e2e {

/// What an engine does with view_memory(): one registration per mapping, while it is named.
class RegisteredMemory {
 public:
  explicit RegisteredMemory(const Client* client) : client_(client) {}
  /// Registers what is new and lets go of what is gone. Before copies of a completion's views.
  void follow() {
    const uint64_t version = client_->view_memory_version();
    if (version == version_) return;
    version_ = version;
    const std::vector<ViewMemory> now = client_->view_memory();
    std::erase_if(entries_, [&now](const auto& entry) {
      return std::none_of(now.begin(), now.end(),
                          [&entry](const ViewMemory& m) { return m.id == entry.first; });
    });
    for (const ViewMemory& memory : now) {
      if (entries_.contains(memory.id)) continue;
      Entry& entry = entries_[memory.id];
      entry.held = memory.held;
      const DeviceResult made =
          HostRegistration::create(memory.memory, HostAccess::read_only, &entry.registration);
      EXPECT_TRUE(made.ok()) << made.message;
    }
  }
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::shared_ptr<const void> held;  // outlives the registration: members go in reverse order
    HostRegistration registration;
  };
  const Client* const client_;
  uint64_t version_ = 0;
  std::map<uint64_t, Entry> entries_;
};
}  // namespace terrace::e2e
