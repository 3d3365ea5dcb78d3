// tools/cli/geometry_option.h - a KV geometry as a person writes it on a command line. Pure.
#pragma once
#include <string>
#include <string_view>

#include "base/geometry.h"
#include "base/status.h"

namespace terrace {

/// "layers=32,kv_heads=8,head_dim=128,dtype=bf16,tokens=512", in any order, on top of a preset that
/// may come first: "small" (32 KiB a chunk), "llama-8b" (64 MiB), "qwen-7b" (28 MiB). Anything left
/// out is the small preset's. kInvalidArgument names the field and what it may be.
StatusOr<Geometry> parse_geometry(std::string_view text);
/// The same model with chunks of about `scale` times the bytes: fewer tokens, never less than one.
/// kInvalidArgument unless 0 < scale <= 64.
StatusOr<Geometry> scale_geometry(Geometry geometry, double scale);
/// "4 layers x 2 heads x 32 x bf16, 32 tokens: 32 KiB".
std::string describe(const Geometry& geometry);
}  // namespace terrace
