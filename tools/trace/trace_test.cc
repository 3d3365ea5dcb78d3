// Goal: every format gives the same requests, hostile lines are refused with file:line, and the
// real traces read whole, with the counts that are known of them. Method: lines by hand; generated
// requests written and read back, plain and packed with zstd; random damage from a seed; the files
// of $TERRACE_TRACES when it is set.
#include <gtest/gtest.h>
#include <unistd.h>
#include <zstd.h>

#include <cstdlib>
#include <unordered_set>

#include "base/prng.h"
#include "tools/trace/trace_format.h"
#include "tools/trace/trace_generator.h"
#include "tools/trace/trace_reader.h"

namespace terrace {
namespace {

struct ReadResult {
  Status status;
  std::vector<TraceRequest> requests;
  TraceFormat format{};
  uint32_t block_tokens = 0;
};

ReadResult read_all(TraceReader reader) {
  ReadResult result{{}, {}, reader.format(), reader.block_tokens()};
  TraceRequest request;
  for (;;) {
    StatusOr<bool> more = reader.next(&request);
    if (!more.ok()) result.status = more.status();
    if (!more.ok() || !*more) return result;
    result.requests.push_back(request);
  }
}

ReadResult read_text(std::string_view text) {
  StatusOr<TraceReader> reader = TraceReader::read_from(make_memory_source(text), "t");
  if (!reader.ok()) return {reader.status(), {}, {}, 0};
  return read_all(*std::move(reader));
}

std::string packed(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

std::string kvt_of(const std::vector<TraceRequest>& requests) {
  std::string text = "# block_tokens=512\n";
  for (const TraceRequest& request : requests) text += to_kvt_line(request) + "\n";
  return text;
}

TEST(Trace, ReadsMooncake) {
  const ReadResult read = read_text(
      "{\"timestamp\": 3500, \"input_length\": 1025, \"output_length\": 7, \"hash_ids\": [0, 9, "
      "4]}\n"
      "\n{\"hash_ids\": [], \"x\": {\"hash_ids\": [1]}, \"timestamp\": 4000}");
  ASSERT_TRUE(read.status.ok()) << read.status.to_string();
  EXPECT_EQ(read.format, TraceFormat::mooncake_jsonl);
  EXPECT_EQ(read.block_tokens, 512u);
  ASSERT_EQ(read.requests.size(), 2u);
  EXPECT_EQ(read.requests[0].time, milliseconds(3500));
  EXPECT_EQ(read.requests[0].input_tokens, 1025u);
  EXPECT_EQ(read.requests[0].output_tokens, 7u);
  EXPECT_EQ(read.requests[0].block_ids, (std::vector<uint64_t>{0, 9, 4}));
  EXPECT_EQ(read.requests[1].time, seconds(4));
  EXPECT_TRUE(read.requests[1].block_ids.empty());
}

TEST(Trace, ReadsQwenAndFollowsItsChats) {
  const ReadResult read = read_text(
      "{\"chat_id\": 5, \"parent_chat_id\": -1, \"timestamp\": 61.114, \"input_length\": 10, "
      "\"output_length\": 2, \"type\": \"text\", \"turn\": 1, \"hash_ids\": [7]}\n"
      "{\"chat_id\": 6, \"parent_chat_id\": 5, \"timestamp\": 70, \"type\": \"image\", \"turn\": "
      "2, "
      "\"hash_ids\": [7, 8]}\n"
      "{\"chat_id\": 9, \"parent_chat_id\": 6, \"timestamp\": 71, \"type\": \"new\", \"turn\": 3, "
      "\"hash_ids\": [7, 8, 10]}\n");
  ASSERT_TRUE(read.status.ok()) << read.status.to_string();
  EXPECT_EQ(read.format, TraceFormat::qwen_jsonl);
  EXPECT_EQ(read.block_tokens, 16u);
  ASSERT_EQ(read.requests.size(), 3u);
  EXPECT_EQ(read.requests[0].time, milliseconds(61114));
  EXPECT_EQ(read.requests[0].category, 0u);
  EXPECT_EQ(read.requests[1].category, 2u);
  EXPECT_EQ(read.requests[2].category, 4u);
  for (const TraceRequest& request : read.requests) EXPECT_EQ(request.session, 5);
  EXPECT_EQ(read.requests[2].turn, 3);
}

TEST(Trace, ReadsKvt) {
  const ReadResult read = read_text(
      "# block_tokens=64 whatever\r\n1.5\t2\t-1\t-1\t70\t3\t0-2,57,60-61\r\n# "
      "note\n2\t0\t1\t9\t0\t0\t");
  ASSERT_TRUE(read.status.ok()) << read.status.to_string();
  EXPECT_EQ(read.block_tokens, 64u);
  ASSERT_EQ(read.requests.size(), 2u);
  const TraceRequest want{milliseconds(1500), 2, -1, -1, 70, 3, {0, 1, 2, 57, 60, 61}};
  EXPECT_EQ(read.requests[0], want);
  EXPECT_TRUE(read.requests[1].block_ids.empty());
  EXPECT_EQ(read.requests[1].session, 9);
}

TEST(Trace, RefusesWithFileAndLine) {
  const struct {
    const char* text;
    const char* where;
  } cases[] = {
      {"", "t:0:"},
      {"hello\n", "t:1:"},
      {"{\"timestamp\": 1}\n", "t:1:"},
      {"# no tokens\n", "t:1:"},
      {"# block_tokens=0\n", "t:1:"},
      {"# block_tokens=99999999\n", "t:1:"},
      {"# block_tokens=512\n1\t2\t3\n", "t:2:"},
      {"# block_tokens=512\n1\t0\t0\t0\t0\t0\t1\t2\n", "t:2:"},
      {"# block_tokens=512\n-1\t0\t0\t0\t0\t0\t1\n", "t:2:"},
      {"# block_tokens=512\nnan\t0\t0\t0\t0\t0\t1\n", "t:2:"},
      {"# block_tokens=512\n1e300\t0\t0\t0\t0\t0\t1\n", "t:2:"},
      {"# block_tokens=512\n1\t0\t0\t0\t0\t0\t1\n1\t0\t0\t0\t0\t0\t5-1\n", "t:3:"},
      {"# block_tokens=512\n1\t0\t0\t0\t0\t0\t0-18446744073709551615\n", "t:2:"},
      {"# block_tokens=512\n1\t0\t0\t0\t0\t0\t0-1048575,7\n", "t:2:"},
      {"# block_tokens=512\n1\t0\t0\t0\t0\t0\t18446744073709551616\n", "t:2:"},
      {"# block_tokens=512\n1\t0\t0\t0\t0\t0\t1,\n", "t:2:"},
      {"{\"timestamp\": 1, \"hash_ids\": [1]}\n{\"timestamp\": 1, \"hash_ids\": [-1]}\n", "t:2:"},
      {"{\"timestamp\": 1, \"hash_ids\": [1.5]}\n", "t:1:"},
      {"{\"timestamp\": 1, \"hash_ids\": [[1]]}\n", "t:1:"},
      {"{\"timestamp\": 1, \"hash_ids\": [\"1\"]}\n", "t:1:"},
      {"{\"timestamp\": 1, \"hash_ids\": 1}\n", "t:1:"},
      {"{\"timestamp\": \"1\", \"hash_ids\": [1]}\n", "t:1:"},
      {"{\"timestamp\": 1e400, \"hash_ids\": [1]}\n", "t:1:"},
      {"{\"timestamp\": -5, \"hash_ids\": [1]}\n", "t:1:"},
      {"{\"timestamp\": 1, \"hash_ids\": [1]\n", "t:1:"},
      {"{\"timestamp\": 1, \"hash_ids\": [1]} {}\n", "t:1:"},
      {"{\"chat_id\": {}, \"timestamp\": 1, \"hash_ids\": [1]}\n", "t:1:"},
      {"{\"chat_id\": 99999999999999999999, \"timestamp\": 1, \"hash_ids\": [1]}\n", "t:1:"},
  };
  for (const auto& c : cases) {
    const ReadResult read = read_text(c.text);
    EXPECT_EQ(read.status.code(), StatusCode::kInvalidArgument) << c.text;
    EXPECT_EQ(read.status.message().rfind(c.where, 0), 0u) << c.text << read.status.message();
  }
}

TEST(Trace, RefusesALineWithoutEnd) {
  const std::string text = "# block_tokens=512\n" + std::string(kTraceLineBytesMax + 1, '1');
  const ReadResult read = read_text(packed(text));
  EXPECT_EQ(read.status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(read.status.message().rfind("t:2:", 0), 0u) << read.status.message();
}

TEST(Trace, RefusesDeepNesting) {
  const std::string text =
      "{\"timestamp\": 1, \"hash_ids\": [1], \"x\": " + std::string(100'000, '[');
  EXPECT_EQ(read_text(text).status.code(), StatusCode::kInvalidArgument);
}

TEST(Trace, DamagedZstdIsDataLoss) {
  const std::string whole = packed(kvt_of(generate_trace({}, 1)));
  for (const size_t keep : {size_t{5}, whole.size() / 2, whole.size() - 1}) {
    const ReadResult read = read_text(std::string_view(whole).substr(0, keep));
    EXPECT_EQ(read.status.code(), StatusCode::kDataLoss) << keep << read.status.to_string();
  }
  EXPECT_TRUE(read_text(whole).status.ok());
  EXPECT_EQ(read_text(whole + whole.substr(0, 0)).requests.size(), 1000u);
}

TEST(Trace, WhatIsWrittenReadsBack) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    TraceShape shape;
    shape.requests = 200;
    const std::vector<TraceRequest> requests = generate_trace(shape, seed);
    const ReadResult plain = read_text(kvt_of(requests));
    EXPECT_TRUE(plain.status.ok()) << "seed " << seed << " " << plain.status.to_string();
    EXPECT_EQ(plain.requests, requests) << "seed " << seed;
    EXPECT_EQ(read_text(packed(kvt_of(requests))).requests, requests) << "seed " << seed;
    std::string mooncake;
    for (const TraceRequest& request : requests) mooncake += to_mooncake_line(request) + "\n";
    const ReadResult json = read_text(mooncake);
    ASSERT_EQ(json.requests.size(), requests.size()) << "seed " << seed << json.status.to_string();
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(json.requests[i].block_ids, requests[i].block_ids) << "seed " << seed;
      EXPECT_EQ(json.requests[i].time, requests[i].time) << "seed " << seed;
    }
  }
}

TEST(Trace, DamageNeverCrashes) {
  TraceShape shape;
  shape.requests = 20;
  const std::string kvt = kvt_of(generate_trace(shape, 3));
  std::string json;
  for (const TraceRequest& request : generate_trace(shape, 3))
    json += to_mooncake_line(request) + "\n";
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    Prng random(seed);
    std::string text = random.chance(40) ? kvt : random.chance(50) ? json : packed(kvt);
    for (uint64_t i = 0; i <= random.below(4); ++i) {
      text[random.below(text.size())] = static_cast<char>(random.below(256));
    }
    for (const TraceRequest& request : read_text(text).requests) {
      ASSERT_LE(request.block_ids.size(), kTraceIdsPerRequestMax) << "seed " << seed;
    }
  }
}

TEST(TraceGenerator, HasTheShapeOfConversations) {
  const std::vector<TraceRequest> requests = generate_trace({}, 7);
  std::unordered_set<uint64_t> seen;
  uint64_t references = 0;
  uint64_t hits = 0;
  Nanos last{0};
  for (const TraceRequest& request : requests) {
    EXPECT_GE(request.time, last);
    last = request.time;
    EXPECT_LE(request.block_ids.size(), TraceShape{}.blocks_per_request_max);
    for (uint64_t id : request.block_ids) {
      ++references;
      hits += seen.insert(id).second ? 0 : 1;
    }
  }
  EXPECT_GT(hits * 100, references * 25);
  EXPECT_LT(hits * 100, references * 75);
  EXPECT_EQ(generate_trace({}, 7), requests);
  EXPECT_NE(generate_trace({}, 8), requests);
}

TEST(Trace, RealTracesReadWhole) {
  const char* directory = std::getenv("TERRACE_TRACES");
  if (directory == nullptr || *directory == '\0')
    GTEST_SKIP() << "TERRACE_TRACES is not set: generated traces only";
  const struct {
    const char* file;
    size_t requests;
    uint32_t block_tokens;
  } cases[] = {{"mooncake_conversation.kvt.zst", 12031, 512},
               {"mooncake_conversation_trace.jsonl.zst", 12031, 512},
               {"agentic_v6_64.kvt.zst", 26093, 64},
               {"rag_musique_chunks.kvt.zst", 150, 552}};
  std::vector<ReadResult> results;
  for (const auto& c : cases) {
    StatusOr<TraceReader> reader = TraceReader::open(std::string(directory) + "/" + c.file);
    ASSERT_TRUE(reader.ok()) << reader.status().to_string();
    results.push_back(read_all(*std::move(reader)));
    EXPECT_TRUE(results.back().status.ok()) << results.back().status.to_string();
    EXPECT_EQ(results.back().requests.size(), c.requests) << c.file;
    EXPECT_EQ(results.back().block_tokens, c.block_tokens) << c.file;
  }
  for (size_t i = 0; i < results[0].requests.size(); ++i) {  // two forms of one trace
    ASSERT_EQ(results[0].requests[i].block_ids, results[1].requests[i].block_ids) << i;
  }
}
}  // namespace
}  // namespace terrace
