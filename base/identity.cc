#include "base/identity.h"

#include <openssl/sha.h>

#include <bit>

#include "base/bytes.h"

namespace terrace {
namespace {

constexpr std::string_view kFingerprintTag = "terrace.fingerprint";
constexpr std::string_view kKeyTag = "terrace.key";
constexpr uint16_t kKeyVersion = 1;
constexpr size_t kTextMax = 1024;

std::string_view view(const ChunkKey& key) {
  return {reinterpret_cast<const char*>(key.digest.data()), key.digest.size()};
}

template <class T>
std::string show(const T& value) {
  if constexpr (std::is_convertible_v<T, std::string>) {
    return '"' + value + '"';
  } else {
    return std::to_string(value);
  }
}

/// Collects the first field that differs.
class Difference {
 public:
  template <class T>
  void field(const std::string& name, const T& stored, const T& offered) {
    if (text_.empty() && !(stored == offered)) {
      text_ = name + ": stored " + show(stored) + ", offered " + show(offered);
    }
  }
  std::string take() { return std::move(text_); }
  bool found() const { return !text_.empty(); }

 private:
  std::string text_;
};

void compare_layers(const Geometry& a, const Geometry& b, Difference* out) {
  out->field("layers", a.layers.size(), b.layers.size());
  for (size_t i = 0; i < a.layers.size() && !out->found(); ++i) {
    const std::string layer = "layer " + std::to_string(i) + " ";
    const LayerGeometry& x = a.layers[i];
    const LayerGeometry& y = b.layers[i];
    out->field(layer + "kv_heads", x.kv_heads, y.kv_heads);
    out->field(layer + "head_dim", x.head_dim, y.head_dim);
    out->field(layer + "dtype", std::string(name_of(x.dtype)), std::string(name_of(y.dtype)));
    out->field(layer + "attention", static_cast<int>(x.attention), static_cast<int>(y.attention));
    out->field(layer + "window_tokens", x.window_tokens, y.window_tokens);
    out->field(layer + "alias_of", x.alias_of, y.alias_of);
    out->field(layer + "rope", x.rope, y.rope);
  }
  if (out->found()) return;
  if (a.need_order != b.need_order) out->field("need_order", std::string("other"), std::string(""));
  if (a.ropes != b.ropes) out->field("rope table", std::string("other"), std::string(""));
}

Geometry parse_geometry(ByteReader* in) {
  Geometry g;
  g.tokens_per_chunk = in->u32();
  const uint32_t layers = in->u32();
  for (uint32_t i = 0; i < layers && i < kLayersMax && in->ok(); ++i) {
    LayerGeometry layer;
    layer.kv_heads = in->u16();
    layer.head_dim = in->u16();
    layer.dtype = static_cast<Dtype>(in->u8());
    layer.attention = static_cast<Attention>(in->u8());
    layer.window_tokens = in->u32();
    layer.alias_of = static_cast<int32_t>(in->u32());
    layer.rope = in->u16();
    g.layers.push_back(layer);
  }
  const uint32_t order = in->u32();
  for (uint32_t i = 0; i < order && i < kLayersMax && in->ok(); ++i) {
    g.need_order.push_back(in->u16());
  }
  const uint32_t ropes = in->u32();
  for (uint32_t i = 0; i < ropes && i < kLayersMax && in->ok(); ++i) {
    Rope rope;
    rope.pairing = static_cast<RopePairing>(in->u8());
    rope.rotary_dim = in->u16();
    rope.attention_scale = std::bit_cast<float>(in->u32());
    const uint32_t frequencies = in->u32();
    for (uint32_t f = 0; f < frequencies && f < kTextMax && in->ok(); ++f) {
      rope.frequencies.push_back(std::bit_cast<float>(in->u32()));
    }
    g.ropes.push_back(std::move(rope));
  }
  return g;
}
}  // namespace

Status Fingerprint::validate() const {
  for (const std::string* text : {&model_id, &model_revision, &weights_digest, &tokenizer_digest,
                                  &engine_layout, &block_hash, &quantization}) {
    if (text->size() > kTextMax) {
      return error(StatusCode::kInvalidArgument, "fingerprint text \"" + text->substr(0, 32) +
                                                     "...\" has " + std::to_string(text->size()) +
                                                     " bytes; at most " + std::to_string(kTextMax));
    }
  }
  if (model_id.empty())
    return error(StatusCode::kInvalidArgument, "fingerprint: model_id is empty");
  return raw() ? ok_status() : geometry.validate();
}

std::string canonical_bytes(const Fingerprint& f) {
  ByteWriter out;
  out.raw(kFingerprintTag);
  out.u16(kFingerprintVersion);
  for (const std::string* text :
       {&f.model_id, &f.model_revision, &f.weights_digest, &f.tokenizer_digest, &f.engine_layout,
        &f.block_hash, &f.quantization}) {
    out.text(*text);
  }
  out.u32(f.tensor_parallel);
  out.u32(f.pipeline_parallel);
  out.u32(f.context_parallel);
  out.u16(f.groups);
  out.raw(canonical_bytes(f.geometry));
  return out.take();
}

StatusOr<Fingerprint> parse_fingerprint(std::string_view canonical) {
  ByteReader in(canonical);
  if (in.raw(kFingerprintTag.size()) != kFingerprintTag) {
    return error(StatusCode::kDataLoss, "fingerprint: bad tag");
  }
  if (const uint16_t version = in.u16(); version != kFingerprintVersion) {
    return error(StatusCode::kFailedPrecondition, "fingerprint version " + std::to_string(version) +
                                                      "; this build reads " +
                                                      std::to_string(kFingerprintVersion));
  }
  Fingerprint f;
  for (std::string* text : {&f.model_id, &f.model_revision, &f.weights_digest, &f.tokenizer_digest,
                            &f.engine_layout, &f.block_hash, &f.quantization}) {
    *text = in.text(kTextMax);
  }
  f.tensor_parallel = in.u32();
  f.pipeline_parallel = in.u32();
  f.context_parallel = in.u32();
  f.groups = in.u16();
  f.geometry = parse_geometry(&in);
  if (!in.ok() || in.left() != 0) {
    return error(StatusCode::kDataLoss,
                 "fingerprint: " + std::to_string(canonical.size()) + " bytes do not add up");
  }
  TERRACE_RETURN_IF_ERROR(f.validate());
  return f;
}

ChunkKey sha256(std::string_view bytes) {
  ChunkKey out;
  ::SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
           reinterpret_cast<unsigned char*>(out.digest.data()));
  return out;
}

ChunkKey digest_of(const Fingerprint& fingerprint) {
  return sha256(canonical_bytes(fingerprint));
}

std::string first_difference(const Fingerprint& stored, const Fingerprint& offered) {
  Difference out;
  out.field("model_id", stored.model_id, offered.model_id);
  out.field("model_revision", stored.model_revision, offered.model_revision);
  out.field("weights_digest", stored.weights_digest, offered.weights_digest);
  out.field("tokenizer_digest", stored.tokenizer_digest, offered.tokenizer_digest);
  out.field("engine_layout", stored.engine_layout, offered.engine_layout);
  out.field("block_hash", stored.block_hash, offered.block_hash);
  out.field("quantization", stored.quantization, offered.quantization);
  out.field("tensor_parallel", stored.tensor_parallel, offered.tensor_parallel);
  out.field("pipeline_parallel", stored.pipeline_parallel, offered.pipeline_parallel);
  out.field("context_parallel", stored.context_parallel, offered.context_parallel);
  out.field("groups", stored.groups, offered.groups);
  out.field("tokens_per_chunk", stored.geometry.tokens_per_chunk,
            offered.geometry.tokens_per_chunk);
  compare_layers(stored.geometry, offered.geometry, &out);
  return out.take();
}

ChunkKey key_of(const KeyParts& parts) {
  ByteWriter out;
  out.text(kKeyTag);
  out.u16(kKeyVersion);
  out.text(view(parts.fingerprint));
  out.text(parts.salt);
  out.u8(static_cast<uint8_t>(parts.kind));
  out.u16(parts.group);
  out.u32(parts.shard);
  out.u32(parts.tokens_per_chunk);
  out.text(view(parts.parent));
  out.u32(static_cast<uint32_t>(4 * parts.tokens.size()));
  for (uint32_t token : parts.tokens) out.u32(token);
  out.text(parts.extra);
  return sha256(out.take());
}

std::vector<ChunkKey> chain_keys(KeyParts parts) {
  std::vector<ChunkKey> keys;
  const std::span<const uint32_t> all = parts.tokens;
  const size_t step = parts.tokens_per_chunk;
  TERRACE_CHECK(step > 0);
  for (size_t at = 0; at + step <= all.size(); at += step) {
    parts.tokens = all.subspan(at, step);
    parts.parent = keys.empty() ? parts.parent : keys.back();
    keys.push_back(key_of(parts));
  }
  return keys;
}
}  // namespace terrace
