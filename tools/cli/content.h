// tools/cli/content.h - bytes that follow from a seed and a position, made and checked at memory
// speed: whoever stores them can later tell whether it was given the right ones. Pure functions.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace terrace {

/// The seed of an object's content; equal for equal `name` and `run_seed` on every machine.
uint64_t content_seed(std::string_view name, uint64_t run_seed);
/// Fills `out` with bytes [offset, offset + out.size()) of the content of `seed`. `offset` is a
/// multiple of 8.
void fill_content(uint64_t seed, uint64_t offset, std::span<std::byte> out);
/// How many of `bytes` differ from what fill_content would give; 0 for the right ones.
uint64_t count_differences(uint64_t seed, uint64_t offset, std::span<const std::byte> bytes);
}  // namespace terrace
