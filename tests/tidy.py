#!/usr/bin/env python3
"""The rules that a compiler cannot see, as a test: arrows between rooms, homes of foreign headers,
sizes, banned calls, tests that nothing builds. Run by ctest; needs only python3.

Usage: tidy.py ROOT"""
import pathlib
import re
import sys

# room -> rooms it may include (docs/architecture.md, "Arrows")
ALLOWED = {
    "base": {"base"},
    "proto": {"base", "proto"},
    "kernels": {"kernels"},
    "transport": {"base", "transport"},
    "storage": {"base", "kernels", "storage"},
    "client": {"base", "proto", "transport", "kernels", "client"},
    "server": {"base", "proto", "transport", "storage", "kernels", "server"},
    "tools": {"base", "proto", "client", "kernels", "storage", "tools"},
    "tests": {"base", "proto", "transport", "storage", "kernels", "client", "server", "tools", "tests"},
}
# foreign header -> the files that may include it
ONLY_IN = {
    "liburing.h": r"base/ring\.h",
    "isa-l/": r"base/crc32c\.cc",
    "spdlog/": r"base/log\.(h|cc)",
    "openssl/": r"base/(identity|digest)\.cc",
    "curl/": r"storage/s3_http\.cc",
    "expat.h": r"storage/s3_xml\.cc",
    "infiniband/": r"transport/(verbs|rdma).*",
    "rdma/": r"transport/(verbs|rdma).*",
    "rocksdb/": r"(storage/metadata.*\.cc|tests/sim/.*)",
    "cuda": r"(kernels/.*|storage/hbm.*)",
    "prometheus/": r"server/.*metrics\.cc",
    "grpcpp/": r"(server/.*_service\.(h|cc)|client/grpc_control\.(h|cc)|tools/cli/.*|tests/e2e/.*)",
    "toml++/": r"server/.*config\.cc",
    "zstd.h": r"tools/trace/.*",
    "cblas.h": r"tools/reference_engine/.*",
    "absl/": r"(?!)",
}
BANNED = {
    r"\bgetenv\(": "a config struct filled in main()",
    r"std::random_device|std::mt19937|\brand\(": "terrace::Prng",
    r"std::shuffle|uniform_int_distribution|std::hash<": "terrace::Prng and our own hashes",
    r"(system|steady|high_resolution)_clock::now": "terrace::Clock",
    r"\bsleep_for\(|\busleep\(": "the loop's timer",
    r"using namespace std": "names",
    r"(?<!static_)\bassert\(": "TERRACE_CHECK",
    r"\b(FIXME|XXX|TODO)\b": "an issue, or the work itself",
    r"\bco_await\b|\bco_return\b": "an Op: GCC 12 miscompiles coroutines",
}
# A banned word that one file needs all the same, with the reason.
EXCEPT = {
    ("server/node/control_service.cc", "terrace::Clock"): "gRPC takes wall-clock deadlines",
    ("client/grpc_control.cc", "terrace::Clock"): "gRPC takes wall-clock deadlines",
    ("tools/cli/node.cc", "terrace::Clock"): "gRPC takes wall-clock deadlines",
}
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
LINE_COLUMNS_MAX = 100
SUFFIXES = {".h", ".cc", ".cu"}


def functions(lines):
    """(first line, length) of each function body, by a crude brace count: a body opens on a line at
    column 0 or 2 that ends in '{' after a ')', and closes at the same indentation."""
    opened = None
    for number, line in enumerate(lines, 1):
        text = line.rstrip()
        indent = len(text) - len(text.lstrip())
        if opened is None and indent <= 4 and re.search(r"\)[^;=]*\{$", text):
            if not re.match(r"\s*(namespace|struct|class|enum|if|for|while|switch)\b", text):
                opened = (number, indent)
        elif opened and indent == opened[1] and text.lstrip().startswith("}"):
            yield opened[0], number - opened[0] + 1
            opened = None


def problems_of(root, path, built):
    name = path.relative_to(root).as_posix()
    room = name.split("/")[0]
    lines = path.read_text().splitlines()
    if path.stem.endswith(("_test", "_fuzz", "_bench")) and path.stem not in built:
        yield f"{name}:1: in no CMakeLists.txt: build it or delete it"
    if len(lines) > FILE_LINES_MAX:
        yield f"{name}:1: {len(lines)} lines; split it by operation (limit {FILE_LINES_MAX})"
    if path.suffix == ".h" and "#pragma once" not in lines:
        yield f"{name}:1: no #pragma once"
    if not lines or not lines[0].startswith(("// ", "#include")):
        yield f"{name}:1: open with a comment that says what this is"
    if room != "tests" and not path.stem.endswith("_test"):
        for first, length in functions(lines):
            if length > FUNCTION_LINES_MAX:
                yield f"{name}:{first}: function of {length} lines (limit {FUNCTION_LINES_MAX})"
    for number, line in enumerate(lines, 1):
        where = f"{name}:{number}"
        if len(line) > LINE_COLUMNS_MAX:
            yield f"{where}: longer than {LINE_COLUMNS_MAX} columns"
        if found := re.match(r'#include "(\w+)/', line):
            target = found[1]
            if target in ALLOWED and target not in ALLOWED[room] and not path.stem.endswith("_test"):
                yield f"{where}: {room} may not include {target}"
        if found := re.match(r"#include <(.+)>", line):
            for header, home in ONLY_IN.items():
                if found[1].startswith(header) and not re.fullmatch(home, name):
                    if not path.stem.endswith("_test"):
                        yield f"{where}: {header} belongs in {home}"
        if room == "tests" or path.stem.endswith(("_test", "_bench")):
            continue
        code = line.split("//")[0]
        for pattern, instead in BANNED.items():
            if re.search(pattern, code) and (name, instead) not in EXCEPT:
                yield f"{where}: banned; use {instead}"


def problems(root):
    ours = [p for p in sorted(root.rglob("*")) if p.relative_to(root).parts[0] in ALLOWED]
    built = "".join(p.read_text() for p in ours if p.name == "CMakeLists.txt")
    for path in ours:
        if path.suffix in SUFFIXES and path.is_file():
            yield from problems_of(root, path, built)


def main():
    found = list(problems(pathlib.Path(sys.argv[1])))
    print("\n".join(found) or "tidy")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
