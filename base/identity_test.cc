// Goal: keys and fingerprints are a format: same bytes for ever, different for every field.
// Method: golden digests; change each field in turn; parse what was written and every truncation.
#include "base/identity.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>

namespace terrace {
namespace {

Fingerprint sample() {
  Fingerprint f;
  f.model_id = "llama-8b";
  f.model_revision = "r1";
  f.weights_digest = "w";
  f.engine_layout = "NHD";
  f.geometry.tokens_per_chunk = 256;
  f.geometry.ropes = {{RopePairing::halves, 4, 1.0f, {1.0f, 0.5f}}};
  f.geometry.layers.assign(2, {8, 128, Dtype::bf16, Attention::gqa, 0, -1, 0});
  return f;
}

TEST(Fingerprint, GoldenDigest) {
  EXPECT_EQ(canonical_bytes(sample()).size(), 144u);
  EXPECT_EQ(digest_of(sample()).hex(),
            "c18e7e9b38833241cc2f3079eb0ac5d87c0536cb7ecadb1e27edc66b9f89a547");
}

TEST(Fingerprint, EveryFieldCountsAndIsNamed) {
  const std::vector<std::pair<std::string, std::function<void(Fingerprint*)>>> changes = {
      {"model_id", [](Fingerprint* f) { f->model_id = "x"; }},
      {"model_revision", [](Fingerprint* f) { f->model_revision = "x"; }},
      {"weights_digest", [](Fingerprint* f) { f->weights_digest = "x"; }},
      {"tokenizer_digest", [](Fingerprint* f) { f->tokenizer_digest = "x"; }},
      {"engine_layout", [](Fingerprint* f) { f->engine_layout = "HND"; }},
      {"block_hash", [](Fingerprint* f) { f->block_hash = "x"; }},
      {"quantization", [](Fingerprint* f) { f->quantization = "x"; }},
      {"tensor_parallel", [](Fingerprint* f) { f->tensor_parallel = 2; }},
      {"pipeline_parallel", [](Fingerprint* f) { f->pipeline_parallel = 2; }},
      {"context_parallel", [](Fingerprint* f) { f->context_parallel = 2; }},
      {"groups", [](Fingerprint* f) { f->groups = 2; }},
      {"tokens_per_chunk", [](Fingerprint* f) { f->geometry.tokens_per_chunk = 128; }},
      {"layers", [](Fingerprint* f) { f->geometry.layers.pop_back(); }},
      {"layer 1 kv_heads", [](Fingerprint* f) { f->geometry.layers[1].kv_heads = 4; }},
      {"layer 0 head_dim", [](Fingerprint* f) { f->geometry.layers[0].head_dim = 64; }},
      {"layer 1 dtype", [](Fingerprint* f) { f->geometry.layers[1].dtype = Dtype::f16; }},
      {"layer 0 attention",
       [](Fingerprint* f) { f->geometry.layers[0].attention = Attention::mha; }},
      {"layer 1 alias_of", [](Fingerprint* f) { f->geometry.layers[1].alias_of = 0; }},
      {"need_order",
       [](Fingerprint* f) {
         f->geometry.need_order = {1, 0};
       }},
      {"rope table", [](Fingerprint* f) { f->geometry.ropes[0].frequencies[1] = 0.25f; }},
  };
  std::set<ChunkKey> digests{digest_of(sample())};
  for (const auto& [name, change] : changes) {
    SCOPED_TRACE(name);
    Fingerprint other = sample();
    change(&other);
    EXPECT_TRUE(digests.insert(digest_of(other)).second);
    EXPECT_EQ(first_difference(sample(), other).substr(0, name.size()), name);
    const auto parsed = parse_fingerprint(canonical_bytes(other));
    ASSERT_TRUE(parsed.ok()) << parsed.status().to_string();
    EXPECT_EQ(*parsed, other);
  }
  EXPECT_EQ(first_difference(sample(), sample()), "");
}

TEST(Fingerprint, TruncatedOrLongerIsRefused) {
  const std::string bytes = canonical_bytes(sample());
  for (size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_FALSE(parse_fingerprint(bytes.substr(0, n)).ok()) << n;
  }
  EXPECT_FALSE(parse_fingerprint(bytes + "x").ok());
}

TEST(ChunkKey, GoldenAndEveryPartCounts) {
  const std::vector<uint32_t> tokens = {1, 2, 3, 4};
  KeyParts parts;
  parts.fingerprint = digest_of(sample());
  parts.tokens_per_chunk = 2;
  parts.tokens = tokens;
  EXPECT_EQ(key_of(parts).hex(),
            "2c8818c59b6b075aeaea231b737e5bf516dbed16ed22d36e4ed85df4ad8b5973");
  std::set<ChunkKey> keys{key_of(parts)};
  const std::vector<std::function<void(KeyParts*)>> changes = {
      [](KeyParts* p) { p->fingerprint.digest[0] ^= std::byte{1}; },
      [](KeyParts* p) { p->salt = "tenant"; },
      [](KeyParts* p) { p->kind = KeyKind::position_independent; },
      [](KeyParts* p) { p->group = 1; },
      [](KeyParts* p) { p->shard = 1; },
      [](KeyParts* p) { p->tokens_per_chunk = 4; },
      [](KeyParts* p) { p->parent.digest[0] = std::byte{1}; },
      [](KeyParts* p) { p->tokens = p->tokens.first(3); },
      [](KeyParts* p) { p->extra = "lora"; },
  };
  for (const auto& change : changes) {
    KeyParts other = parts;
    change(&other);
    EXPECT_TRUE(keys.insert(key_of(other)).second);
  }
}

TEST(ChunkKey, ChainDependsOnEverythingBefore) {
  std::vector<uint32_t> tokens = {1, 2, 3, 4, 5, 6, 7};
  KeyParts parts;
  parts.tokens_per_chunk = 2;
  parts.tokens = tokens;
  const auto keys = chain_keys(parts);
  ASSERT_EQ(keys.size(), 3u);  // the partial tail has no key
  tokens[0] = 9;
  const auto changed = chain_keys(parts);
  for (size_t i = 0; i < 3; ++i) EXPECT_NE(keys[i], changed[i]);
  tokens[0] = 1;
  tokens[5] = 9;
  const auto later = chain_keys(parts);
  EXPECT_EQ(keys[1], later[1]);
  EXPECT_NE(keys[2], later[2]);
}
}  // namespace
}  // namespace terrace
