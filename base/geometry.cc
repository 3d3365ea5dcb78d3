#include "base/geometry.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "base/bytes.h"

namespace terrace {
namespace {

Status bad(size_t layer, const std::string& what) {
  return error(StatusCode::kInvalidArgument,
               "geometry layer " + std::to_string(layer) + ": " + what);
}

Status validate_layer(const Geometry& geometry, size_t index) {
  const LayerGeometry& layer = geometry.layers[index];
  if (layer.alias_of >= 0) {
    if (static_cast<size_t>(layer.alias_of) < index) return ok_status();
    return bad(index, "alias_of=" + std::to_string(layer.alias_of) + " is not an earlier layer");
  }
  if (layer.alias_of < -1) return bad(index, "alias_of=" + std::to_string(layer.alias_of));
  if (layer.kv_heads == 0) return bad(index, "kv_heads is 0");
  if (layer.head_dim == 0) return bad(index, "head_dim is 0");
  if (bytes_of(layer.dtype) == 0) return bad(index, "unknown dtype");
  const bool windowed = layer.attention == Attention::sliding_window;
  if (windowed != (layer.window_tokens > 0)) {
    return bad(index, "window_tokens=" + std::to_string(layer.window_tokens) +
                          (windowed ? " on a sliding window" : " without a sliding window"));
  }
  if (!geometry.ropes.empty() && layer.rope >= geometry.ropes.size()) {
    return bad(index, "rope=" + std::to_string(layer.rope) + " of " +
                          std::to_string(geometry.ropes.size()));
  }
  return ok_status();
}
}  // namespace

const char* name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return "f32";
    case Dtype::f16:
      return "f16";
    case Dtype::bf16:
      return "bf16";
    case Dtype::fp8_e4m3:
      return "fp8_e4m3";
    case Dtype::fp8_e5m2:
      return "fp8_e5m2";
    case Dtype::int8:
      return "int8";
  }
  return "unknown";
}

uint32_t bytes_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return 4;
    case Dtype::f16:
    case Dtype::bf16:
      return 2;
    case Dtype::fp8_e4m3:
    case Dtype::fp8_e5m2:
    case Dtype::int8:
      return 1;
  }
  return 0;
}

Status Geometry::validate() const {
  if (layers.empty() || layers.size() > kLayersMax) {
    return error(StatusCode::kInvalidArgument, "geometry has " + std::to_string(layers.size()) +
                                                   " layers; 1 to " + std::to_string(kLayersMax));
  }
  if (tokens_per_chunk == 0) {
    return error(StatusCode::kInvalidArgument, "geometry: tokens_per_chunk is 0");
  }
  for (size_t i = 0; i < layers.size(); ++i) TERRACE_RETURN_IF_ERROR(validate_layer(*this, i));
  std::vector<bool> seen(layers.size());
  for (uint16_t layer : need_order) {
    if (layer >= layers.size() || seen[layer]) return bad(layer, "need_order is no permutation");
    seen[layer] = true;
  }
  if (!need_order.empty() && need_order.size() != layers.size()) {
    return error(StatusCode::kInvalidArgument, "geometry: need_order misses layers");
  }
  const uint64_t bytes = total_bytes(sections_of(*this, tokens_per_chunk));
  if (bytes == 0 || bytes > kObjectBytesMax) {
    return error(StatusCode::kInvalidArgument,
                 "geometry: a chunk of " + std::to_string(tokens_per_chunk) + " tokens has " +
                     std::to_string(bytes) + " bytes; 1 to " + std::to_string(kObjectBytesMax));
  }
  return ok_status();
}

uint64_t Geometry::plane_bytes(uint16_t layer, uint32_t tokens) const {
  const LayerGeometry& g = layers[layer];
  if (g.alias_of >= 0) return 0;
  return uint64_t{tokens} * g.kv_heads * g.head_dim * bytes_of(g.dtype);
}

std::vector<uint16_t> Geometry::order() const {
  if (!need_order.empty()) return need_order;
  std::vector<uint16_t> order(layers.size());
  std::iota(order.begin(), order.end(), uint16_t{0});
  return order;
}

std::vector<SectionSpec> sections_of(const Geometry& geometry, uint32_t tokens) {
  std::vector<SectionSpec> sections;
  for (uint16_t layer : geometry.order()) {
    const uint64_t bytes = geometry.plane_bytes(layer, tokens);
    if (bytes == 0) continue;
    sections.push_back({SectionKind::k_plane, Codec::identity, layer, bytes});
    if (geometry.layers[layer].attention != Attention::mla) {
      sections.push_back({SectionKind::v_plane, Codec::identity, layer, bytes});
    }
  }
  return sections;
}

uint64_t total_bytes(const std::vector<SectionSpec>& sections) {
  uint64_t bytes = 0;
  for (const SectionSpec& section : sections) bytes += section.bytes;
  return bytes;
}

std::string canonical_bytes(const Geometry& geometry) {
  ByteWriter out;
  out.u32(geometry.tokens_per_chunk);
  out.u32(static_cast<uint32_t>(geometry.layers.size()));
  for (const LayerGeometry& layer : geometry.layers) {
    out.u16(layer.kv_heads);
    out.u16(layer.head_dim);
    out.u8(static_cast<uint8_t>(layer.dtype));
    out.u8(static_cast<uint8_t>(layer.attention));
    out.u32(layer.window_tokens);
    out.u32(static_cast<uint32_t>(layer.alias_of));
    out.u16(layer.rope);
  }
  out.u32(static_cast<uint32_t>(geometry.need_order.size()));
  for (uint16_t layer : geometry.need_order) out.u16(layer);
  out.u32(static_cast<uint32_t>(geometry.ropes.size()));
  for (const Rope& rope : geometry.ropes) {
    out.u8(static_cast<uint8_t>(rope.pairing));
    out.u16(rope.rotary_dim);
    out.u32(std::bit_cast<uint32_t>(rope.attention_scale));
    out.u32(static_cast<uint32_t>(rope.frequencies.size()));
    for (float f : rope.frequencies) out.u32(std::bit_cast<uint32_t>(f));
  }
  return out.take();
}
}  // namespace terrace
