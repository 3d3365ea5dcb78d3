// Goal: the figures of a benchmark follow from its rounds, and peers' answers are read as they are.
// Method: the pure parts with values worked out by hand; RESP in every split of the stream; fio's
// report as fio 3.33 writes it, and cut short at every byte.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "tools/cli/bench_math.h"
#include "tools/cli/bench_perftest.h"
#include "tools/cli/bench_process.h"
#include "tools/cli/bench_report.h"
#include "tools/cli/bench_resp.h"
#include "tools/cli/bench_socket.h"

namespace terrace {
namespace {

TEST(BenchMath, median_is_the_middle_of_the_sorted_values) {
  EXPECT_EQ(median(std::vector<double>{}), 0);
  EXPECT_EQ(median(std::vector<double>{7}), 7);
  EXPECT_EQ(median(std::vector<double>{9, 1, 5}), 5);
  EXPECT_EQ(median(std::vector<double>{4, 1, 3, 2}), 2.5);
}

TEST(BenchMath, median_of_figures_takes_each_field_by_itself) {
  const std::vector<Figure> rounds = {{1, 30}, {2, 10}, {3, 20}};
  const Figure middle = median(rounds);
  EXPECT_EQ(middle.gb_per_s, 2);
  EXPECT_EQ(middle.cpu_s_per_gb, 20);
}

TEST(BenchMath, ratio_of_nothing_is_zero) {
  EXPECT_EQ(ratio_of(3, 2), 1.5);
  EXPECT_EQ(ratio_of(3, 0), 0);
}

TEST(BenchMath, bar_holds_at_its_limit_and_never_without_a_number) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE((Bar{"", 0.85, Bar::Sense::at_least, 0.85}.held()));
  EXPECT_FALSE((Bar{"", 0.849, Bar::Sense::at_least, 0.85}.held()));
  EXPECT_TRUE((Bar{"", 1.3, Bar::Sense::at_most, 1.3}.held()));
  EXPECT_FALSE((Bar{"", 1.31, Bar::Sense::at_most, 1.3}.held()));
  EXPECT_FALSE((Bar{"", nan, Bar::Sense::at_least, 0}.held()));
  EXPECT_FALSE((Bar{"", nan, Bar::Sense::at_most, 0}.held()));
  const std::vector<Bar> bars = {{"", 1, Bar::Sense::at_least, 0}, {"", 1, Bar::Sense::at_most, 0}};
  EXPECT_FALSE(all_held(bars));
  EXPECT_TRUE(all_held(std::span(bars).first(1)));
}

constexpr const char* kFioReport = R"(fio: this is a note
{
  "fio version" : "fio-3.33",
  "jobs" : [
    {
      "jobname" : "terrace", "error" : 0, "job_runtime" : 2003,
      "read" : { "io_bytes" : 4000000000, "bw_bytes" : 2000000000, "runtime" : 2000 },
      "write" : { "io_bytes" : 0, "bw_bytes" : 0, "runtime" : 0 },
      "usr_cpu" : 1.0, "sys_cpu" : 9.0
    }
  ]
})";

TEST(BenchFio, report_gives_bytes_and_cpu_per_second) {
  const StatusOr<Figure> figure = parse_fio(kFioReport, "read");
  ASSERT_TRUE(figure.ok()) << figure.status().to_string();
  EXPECT_DOUBLE_EQ(figure->gb_per_s, 2.0);
  EXPECT_NEAR(figure->cpu_s_per_gb, 0.1 * 2.003 / 4, 1e-12);
  EXPECT_EQ(parse_fio(kFioReport, "write").status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(parse_fio(kFioReport, "trim").status().code(), StatusCode::kInvalidArgument);
}

TEST(BenchFio, report_cut_short_or_failed_is_refused) {
  const std::string whole = kFioReport;
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    EXPECT_FALSE(parse_fio(std::string_view(whole).substr(0, bytes), "read").ok()) << bytes;
  }
  std::string failed = whole;
  failed.replace(failed.find("\"error\" : 0"), 11, "\"error\" : 5");
  EXPECT_FALSE(parse_fio(failed, "read").ok());
  EXPECT_FALSE(parse_fio(R"({"jobs":[1]})", "read").ok());
  EXPECT_FALSE(parse_fio(R"({"jobs":[{"error":0,"read":5}]})", "read").ok());
}

TEST(BenchPerftest, report_gives_the_average_of_its_one_line) {
  const std::string head =
      " #bytes     #iterations    BW peak[MB/sec]    BW average[MB/sec]   MsgRate[Mpps]\n";
  const StatusOr<double> figure = parse_perftest(
      head + " 1048576    128              612.41             600.00\t   0.000600\n");
  ASSERT_TRUE(figure.ok()) << figure.status().to_string();
  EXPECT_DOUBLE_EQ(*figure, 600.0 * 1048576 / 1e9);
  // A clock that failed, another size, nothing at all.
  EXPECT_FALSE(parse_perftest(head + " 1048576    128   inf   inf   0.0\n").ok());
  EXPECT_FALSE(parse_perftest(head + " 1048576    128   0.00   0.00   0.0\n").ok());
  EXPECT_FALSE(parse_perftest(head + " 65536    128   612.41   600.00   0.0\n").ok());
  EXPECT_FALSE(parse_perftest(head).ok());
}

TEST(BenchPerftest, the_first_ipv4_address_is_chosen) {
  char name[] = "/tmp/terrace-gids-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  const std::string directory = name;
  const auto write = [&](int i, const char* gid) {
    std::ofstream(directory + "/" + std::to_string(i)) << gid << "\n";
  };
  EXPECT_EQ(choose_gid(directory), 0u);
  write(0, "fe80:0000:0000:0000:0001:02ff:fe03:0405");
  EXPECT_EQ(choose_gid(directory), 0u);
  write(1, "0000:0000:0000:0000:0000:ffff:c0a8:4d01");
  EXPECT_EQ(choose_gid(directory), 1u);
  std::filesystem::remove_all(directory);
}

/// Feeds `stream` in steps of `step` bytes to a reader that expects `values` of `bytes` each.
Status read_values(const std::string& stream, size_t step, size_t bytes,
                   std::vector<std::string>* values) {
  RespReader reader;
  size_t at = 0;
  for (std::string& value : *values) {
    value.assign(bytes, '?');
    TERRACE_RETURN_IF_ERROR(reader.start(std::as_writable_bytes(std::span(value))));
    while (!reader.done()) {
      const std::span<std::byte> room = reader.room();
      const size_t n = std::min({step, room.size(), stream.size() - at});
      if (n == 0) return error(StatusCode::kUnavailable, "the stream ended");
      std::memcpy(room.data(), stream.data() + at, n);
      at += n;
      TERRACE_RETURN_IF_ERROR(reader.received(n));
    }
  }
  return ok_status();
}

TEST(BenchResp, values_come_whole_however_the_stream_is_cut) {
  for (const size_t bytes : {size_t{1}, size_t{7}, size_t{61}, size_t{300}}) {
    const std::string first(bytes, 'a');
    const std::string second(bytes, '\r');  // looks like a line end
    const std::string third(bytes, '$');
    std::string stream;
    for (const std::string& value : {first, second, third}) {
      stream += "$" + std::to_string(bytes) + "\r\n" + value + "\r\n";
    }
    for (size_t step = 1; step <= stream.size(); ++step) {
      std::vector<std::string> values(3);
      const Status status = read_values(stream, step, bytes, &values);
      ASSERT_TRUE(status.ok()) << status.to_string() << " bytes " << bytes << " step " << step;
      EXPECT_EQ(values, (std::vector<std::string>{first, second, third})) << "step " << step;
    }
  }
}

TEST(BenchResp, lines_come_one_by_one) {
  RespReader reader;
  const std::string stream = "+OK\r\n:12\r\n";
  ASSERT_TRUE(reader.start({}).ok());
  std::memcpy(reader.room().data(), stream.data(), stream.size());
  ASSERT_TRUE(reader.received(stream.size()).ok());
  EXPECT_TRUE(reader.done());
  EXPECT_EQ(reader.line(), "+OK");
  ASSERT_TRUE(reader.start({}).ok());
  EXPECT_TRUE(reader.done()) << "the second line had arrived with the first";
  EXPECT_EQ(reader.line(), ":12");
}

TEST(BenchResp, anything_else_is_refused) {
  const std::string longest(400, 'x');
  for (const std::string& stream :
       {std::string("-ERR no\r\n"), std::string("$-1\r\n"), std::string("$5\r\nhello\r\n"),
        std::string("$4\r\nhellX\n"), std::string("+OK\r\n"), std::string("$4x\r\n"),
        std::string("\r\n"), longest}) {
    std::vector<std::string> values(1);
    const Status status = read_values(stream, 5, 4, &values);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << stream.substr(0, 20);
  }
}

BenchReport report_with(std::vector<Bar> bars) {
  BenchReport report;
  report.name = "test";
  report.ours = {1, 2};
  report.ceiling = {4, 1};
  report.tier_bytes[static_cast<size_t>(Tier::nvme)] = 5;
  report.bars = std::move(bars);
  return report;
}

TEST(BenchReportJson, has_every_promised_field) {
  const Json json = report_with({{"x", 1, Bar::Sense::at_least, 2}}).to_json();
  for (const char* field : {"name", "gb_per_s", "ceiling_gb_per_s", "ratio", "cpu_s_per_gb",
                            "ceiling_cpu_s_per_gb", "p50_us", "p99_us", "p999_us", "bytes_verified",
                            "bytes_verified_by", "tier_bytes", "held", "bars"}) {
    EXPECT_TRUE(json.contains(field)) << field;
  }
  EXPECT_EQ(json["ratio"], 0.25);
  EXPECT_EQ(json["held"], false);
  EXPECT_EQ(json["tier_bytes"]["nvme"], 5);
  EXPECT_EQ(json["bars"][0]["held"], false);
}

TEST(BenchReportExit, check_tells_a_missed_bar_from_a_missing_measurement) {
  const auto exit_of = [](BenchReport report, bool check) {
    BenchOptions options;
    options.check = check;
    Globals globals;
    testing::internal::CaptureStdout();
    const int code = print_report(report, globals, options);
    testing::internal::GetCapturedStdout();
    return code;
  };
  const Bar good{"good", 2, Bar::Sense::at_least, 1};
  const Bar bad{"bad", 0, Bar::Sense::at_least, 1};
  BenchReport blind = report_with({good});
  blind.unmeasured = {"something"};
  EXPECT_EQ(exit_of(report_with({good}), true), kExitOk);
  EXPECT_EQ(exit_of(report_with({bad}), true), kExitNo);
  EXPECT_EQ(exit_of(report_with({bad}), false), kExitOk);
  EXPECT_EQ(exit_of(blind, true), kExitError);
}

TEST(BenchProcess, programs_run_and_are_told_apart_from_missing_ones) {
  const auto said = run_program({"echo", "hello"}, milliseconds(10'000));
  ASSERT_TRUE(said.ok()) << said.status().to_string();
  EXPECT_EQ(*said, "hello\n");
  EXPECT_EQ(run_program({"false"}, milliseconds(10'000)).status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(run_program({"no-such-program-here"}, milliseconds(10'000)).status().code(),
            StatusCode::kUnavailable);
  EXPECT_EQ(run_program({"cat", "/dev/zero"}, milliseconds(50)).status().code(),
            StatusCode::kDeadlineExceeded);
}

TEST(BenchProcess, kernel_counts_this_process) {
  EXPECT_GT(cpu_time_of(::getpid()).count(), 0);
  const auto rss = memory_of(::getpid(), "VmRSS");
  ASSERT_TRUE(rss.ok());
  EXPECT_GT(*rss, 100'000u);
  EXPECT_EQ(memory_of(::getpid(), "NoSuchField").status().code(), StatusCode::kNotFound);
}

TEST(BenchSocket, every_connection_puts_its_pieces_in_their_places) {
  std::vector<std::byte> from(size_t{6} << 20);
  std::vector<std::byte> into(from.size());
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i * 31 + (i >> 20));
  // Each connection finishes the piece it began; a run this long covers all places many times.
  const auto figure = stream_over_sockets({3, milliseconds(200)}, from, into);
  ASSERT_TRUE(figure.ok()) << figure.status().to_string();
  EXPECT_GT(figure->gb_per_s, 0);
  EXPECT_EQ(std::memcmp(from.data(), into.data(), from.size()), 0);
}

TEST(BenchSocket, ping_pong_counts_round_trips) {
  PingPongOptions options;
  options.request_bytes = 4128;
  options.reply_bytes = 3104;
  options.depth = 4;
  options.duration = milliseconds(50);
  const auto result = ping_pong_over_sockets(options);
  ASSERT_TRUE(result.ok()) << result.status().to_string();
  EXPECT_GT(result->round_trips, 0u);
  EXPECT_EQ(result->latencies.count(), result->round_trips);
}
}  // namespace
}  // namespace terrace
