#!/usr/bin/env python3
"""Proves that tidy.py can fail: every rule, broken once in a scratch tree, must be reported."""
import pathlib
import subprocess
import sys
import tempfile

CASES = {
    "storage/a.cc": ("// a\n#include \"transport/transport.h\"\n", "storage may not include transport"),
    "client/b.cc": ("// b\n#include \"server/node/node.h\"\n", "client may not include server"),
    "base/c.cc": ("// c\n#include <rocksdb/db.h>\n", "rocksdb/ belongs in"),
    "base/d.cc": ("// d\nint x = rand();\n", "banned; use terrace::Prng"),
    "base/e.cc": ("// e\n" + "int x;\n" * 500, "split it by operation"),
    "base/f.cc": ("// f\nvoid f() {\n" + "  g();\n" * 80 + "}\n", "function of 82 lines"),
    "base/g_test.cc": ("// g\n", "in no CMakeLists.txt"),
    "base/h.h": ("// h\n", "no #pragma once"),
    "base/i.cc": ("// i" + "i" * 120 + "\n", "longer than 100 columns"),
}


def main():
    tidy = pathlib.Path(__file__).with_name("tidy.py")
    failures = 0
    for name, (text, expected) in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch) / name
            path.parent.mkdir(parents=True)
            path.write_text(text)
            run = subprocess.run([sys.executable, tidy, scratch], capture_output=True, text=True)
            if run.returncode != 1 or expected not in run.stdout:
                print(f"{name}: expected \"{expected}\", got {run.returncode}: {run.stdout}")
                failures += 1
    print(f"{len(CASES) - failures} passed, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
