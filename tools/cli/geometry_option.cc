#include "tools/cli/geometry_option.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "tools/cli/output.h"

namespace terrace {
namespace {
struct Shape {
  const char* name;
  uint32_t layers, kv_heads, head_dim;
  Dtype dtype;
  uint32_t tokens;
};
constexpr std::array<Shape, 3> kPresets = {{{"small", 4, 2, 32, Dtype::bf16, 32},
                                            {"llama-8b", 32, 8, 128, Dtype::bf16, 512},
                                            {"qwen-7b", 28, 4, 128, Dtype::bf16, 512}}};
constexpr std::array<Dtype, 6> kDtypes = {Dtype::f32,      Dtype::f16,      Dtype::bf16,
                                          Dtype::fp8_e4m3, Dtype::fp8_e5m2, Dtype::int8};

Status bad(std::string_view part, const std::string& want) {
  return error(StatusCode::kInvalidArgument,
               "geometry: \"" + std::string(part.substr(0, 60)) + "\": " + want);
}

Status set_dtype(std::string_view part, std::string_view value, Shape* shape) {
  std::string known;
  for (const Dtype dtype : kDtypes) {
    if (value == name_of(dtype)) {
      shape->dtype = dtype;
      return ok_status();
    }
    known += std::string(known.empty() ? "" : ", ") + name_of(dtype);
  }
  return bad(part, "want one of " + known);
}

Status set_field(std::string_view part, Shape* shape) {
  const size_t equals = part.find('=');
  if (equals == std::string_view::npos) {
    for (const Shape& preset : kPresets) {
      if (part == preset.name) {
        *shape = preset;
        return ok_status();
      }
    }
    return bad(part, "want small, llama-8b, qwen-7b or field=value");
  }
  const std::string_view field = part.substr(0, equals);
  const std::string_view value = part.substr(equals + 1);
  if (field == "dtype") return set_dtype(part, value, shape);
  const struct {
    const char* name;
    uint32_t* value;
    uint32_t max;
  } numbers[] = {{"layers", &shape->layers, kLayersMax},
                 {"kv_heads", &shape->kv_heads, 65535},
                 {"head_dim", &shape->head_dim, 65535},
                 {"tokens", &shape->tokens, 1u << 20}};
  for (const auto& number : numbers) {
    if (field != number.name) continue;
    const auto [end, problem] =
        std::from_chars(value.data(), value.data() + value.size(), *number.value);
    if (problem == std::errc() && end == value.data() + value.size() && *number.value > 0 &&
        *number.value <= number.max) {
      return ok_status();
    }
    return bad(part, "want 1 to " + std::to_string(number.max));
  }
  return bad(part, "the fields are layers, kv_heads, head_dim, dtype, tokens");
}
}  // namespace

StatusOr<Geometry> parse_geometry(std::string_view text) {
  Shape shape = kPresets[0];
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    TERRACE_RETURN_IF_ERROR(set_field(text.substr(0, comma), &shape));
    text.remove_prefix(std::min(text.size(), comma + 1));
  }
  Geometry geometry;
  geometry.tokens_per_chunk = shape.tokens;
  LayerGeometry layer;
  layer.kv_heads = static_cast<uint16_t>(shape.kv_heads);
  layer.head_dim = static_cast<uint16_t>(shape.head_dim);
  layer.dtype = shape.dtype;
  layer.attention = Attention::gqa;
  geometry.layers.assign(shape.layers, layer);
  geometry.ropes.resize(1);
  TERRACE_RETURN_IF_ERROR(geometry.validate());
  return geometry;
}

StatusOr<Geometry> scale_geometry(Geometry geometry, double scale) {
  if (!(scale > 0 && scale <= 64)) {
    return error(StatusCode::kInvalidArgument, "size scale: want more than 0 and at most 64");
  }
  const double tokens = std::round(geometry.tokens_per_chunk * scale);
  geometry.tokens_per_chunk = static_cast<uint32_t>(std::max(1.0, tokens));
  TERRACE_RETURN_IF_ERROR(geometry.validate());
  return geometry;
}

std::string describe(const Geometry& geometry) {
  const LayerGeometry& layer = geometry.layers.front();
  return std::to_string(geometry.layers.size()) + " layers x " + std::to_string(layer.kv_heads) +
         " heads x " + std::to_string(layer.head_dim) + " x " + name_of(layer.dtype) + ", " +
         std::to_string(geometry.tokens_per_chunk) +
         " tokens: " + human_bytes(total_bytes(sections_of(geometry, geometry.tokens_per_chunk)));
}
}  // namespace terrace
