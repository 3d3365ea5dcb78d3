// base/limits.h - every bound that more than one room relies on, and what must hold between them.
#pragma once
#include <chrono>
#include <cstdint>

namespace terrace {
inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kGiB = 1024 * kMiB;

// Objects
inline constexpr uint64_t kObjectBytesMax = kGiB;
inline constexpr uint32_t kLayersMax = 512;
inline constexpr uint32_t kSectionsMax = 2048;  // of one object
inline constexpr uint32_t kRawKeyBytesMax = 1024;
inline constexpr uint32_t kUserMetaBytesMax = 4096;  // opaque bytes kept with an object
inline constexpr uint32_t kCrcUnitBytes = 64 * 1024;
inline constexpr uint32_t kSectorBytes = 4096;  // device alignment and torn-write unit

// Requests
inline constexpr uint32_t kKeysPerRequestMax = 512;
inline constexpr std::chrono::microseconds kPollLongest{1'000'000};  // of a loop, before it sleeps
inline constexpr uint32_t kFragmentsPerRequestMax = 65536;
inline constexpr uint32_t kBlockIdsPerRequestMax = 65536;
// Planes times block ids, over all items of a request.
inline constexpr uint64_t kPagedPiecesPerRequestMax = uint64_t{4} << 20;
inline constexpr uint32_t kBodyBytesMax = 2 * 1024 * 1024;
inline constexpr uint32_t kFramePayloadBytesMax = 1024 * 1024;
inline constexpr uint32_t kFramesFragmentsMax = 256;  // destination fragments of one data frame
inline constexpr uint32_t kDeliveriesPerFrameMax = 64;

// Per session
inline constexpr uint32_t kRegionsPerSessionMax = 4096;
inline constexpr uint32_t kOperationsPerSessionMax = 1024;
inline constexpr uint32_t kLeasesPerSessionMax = 4096;
inline constexpr uint32_t kRightsPerSessionMax = 1024;  // to compute a chunk
inline constexpr std::chrono::milliseconds kRightHoldLongest{600'000};
inline constexpr uint32_t kConnectionsPerSessionMax = 16;
inline constexpr uint32_t kNamespacesMax = 65536;

inline constexpr uint32_t kNodesMax = 64;  // that one client speaks to

static_assert(kFramePayloadBytesMax % kCrcUnitBytes == 0, "whole units fill a frame");
static_assert(kCrcUnitBytes % kSectorBytes == 0, "a unit is whole sectors");
}  // namespace terrace
