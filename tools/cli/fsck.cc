// `terrace fsck`: checks the data directory of a node that does not run.
#include <cstdio>
#include <memory>

#include "storage/fsck.h"
#include "tools/cli/commands.h"
#include "tools/cli/output.h"

namespace terrace {
namespace {
Json json_of(const FsckReport& report) {
  return {{"device_bytes", report.device_bytes},
          {"rows", report.rows},
          {"objects_good", report.objects_good},
          {"bytes_checked", report.bytes_checked},
          {"index_unreadable", report.index_unreadable},
          {"rows_undecodable", report.rows_undecodable},
          {"rows_out_of_range", report.rows_out_of_range},
          {"rows_overlapping", report.rows_overlapping},
          {"headers_bad", report.headers_bad},
          {"units_bad", report.units_bad},
          {"rebuilt", report.rebuilt},
          {"findings", report.findings}};
}

void print_text(const FsckReport& report, const FsckOptions& options) {
  for (const std::string& finding : report.findings) std::printf("%s\n", finding.c_str());
  const uint64_t bad = report.rows_undecodable + report.rows_out_of_range +
                       report.rows_overlapping + report.headers_bad + report.units_bad;
  if (bad > report.findings.size()) {
    std::printf("... and %s more\n", human_count(bad - report.findings.size()).c_str());
  }
  std::printf("%s objects good, %s checked, %s bad\n", human_count(report.objects_good).c_str(),
              human_bytes(report.bytes_checked).c_str(), human_count(bad).c_str());
  if (options.rebuild) std::printf("index rebuilt: %s rows\n", human_count(report.rebuilt).c_str());
  if (bad > 0 && !options.rebuild) {
    std::printf("bad objects are misses for a node that starts here; they are never served\n");
  }
}

int run_fsck(FsckOptions options, const Globals& globals) {
  Progress progress("fsck", 100, !globals.json);
  options.progress = [&progress](uint64_t done, uint64_t total) {
    progress.show(total == 0 ? 100 : done * 100 / total,
                  human_bytes(done) + " of " + human_bytes(total));
  };
  const StatusOr<FsckReport> report = fsck(options);
  if (!report.ok()) return report_failure(globals, "fsck", report.status());
  if (globals.json) {
    Json out = {{"command", "fsck"}, {"ok", report->clean()}};
    out.update(json_of(*report));
    print_json(out);
  } else {
    print_text(*report, options);
  }
  return report->clean() ? kExitOk : kExitNo;
}
}  // namespace

void add_fsck(CLI::App* app, Invocation* invocation) {
  CLI::App* command =
      app->add_subcommand("fsck", "Check the data directory of a node that does not run");
  auto options = std::make_shared<FsckOptions>();
  auto headers_only = std::make_shared<bool>(false);
  command->add_option("DIRECTORY", options->data_directory, "The node's data directory")
      ->required();
  command->add_option("--data-file", options->data_file,
                      "Its data files or devices, comma between, when they lie elsewhere");
  command->add_flag("--headers-only", *headers_only, "Do not read the objects' bytes");
  command->add_flag("--rebuild", options->rebuild,
                    "Make the durable index anew from the object headers");
  command->footer(
      examples("  terrace fsck /var/lib/terrace\n"
               "  terrace fsck /var/lib/terrace --headers-only --json\n"
               "  terrace fsck /var/lib/terrace --rebuild\n"));
  command->callback([options, headers_only, invocation] {
    options->check_units = !*headers_only;
    invocation->run = [options](const Globals& globals) { return run_fsck(*options, globals); };
  });
}
}  // namespace terrace
