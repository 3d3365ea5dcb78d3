#!/usr/bin/env python3
"""Goal: every command of `terrace` does what its help says, against a real node: text and --json,
exit codes 0, 1 and 2, files byte for byte.
Method: one node with both tiers in a scratch directory; each test runs real commands.

Usage: cli_test.py DIRECTORY_OF_PROGRAMS"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

PROGRAMS = pathlib.Path(sys.argv.pop(1)).resolve()


class Node:
    """terraced --dev on free ports."""

    def __init__(self, directory, *flags):
        self.process = subprocess.Popen(
            [PROGRAMS / "terraced", "--dev", "--control-port", "0", "--data-port", "0",
             "--metrics-port", "0", "--data-directory", directory, "--nvme-bytes", "256MiB",
             "--dram-bytes", "128MiB", "--slab-bytes", "16MiB", *flags],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.ready = json.loads(self.process.stdout.readline())
        self.name = f"127.0.0.1:{self.ready['control_port']}"

    def stop(self):
        self.process.terminate()
        code = self.process.wait(timeout=30)
        self.process.stdout.close()
        return code


class CliTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="terrace-cli-")
        cls.root = pathlib.Path(cls.scratch.name)
        cls.node = Node(cls.root / "data")

    @classmethod
    def tearDownClass(cls):
        cls.node.stop()
        cls.scratch.cleanup()

    def run_terrace(self, *arguments, code=0, node=True, timeout=120):
        command = [PROGRAMS / "terrace", *(("--node", self.node.name) if node else ()),
                   *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, timeout=timeout, check=False,
                              stdin=subprocess.DEVNULL)
        if code is not None:
            self.assertEqual(done.returncode, code,
                             f"{arguments}\n{done.stdout.decode()}{done.stderr.decode()}")
        return done

    def run_json(self, *arguments, **options):
        return json.loads(self.run_terrace(*arguments, "--json", **options).stdout)

    def write_file(self, name, size):
        path = self.root / name
        path.write_bytes(os.urandom(size))
        return path

    def test_files_come_back_byte_for_byte(self):
        for size in (1, 4096, 65537, 3_000_001):
            path = self.write_file(f"file-{size}", size)
            stored = self.run_json("put", path, "--key", f"k{size}")
            self.assertEqual(stored["objects"][0]["outcome"], "stored")
            copy = self.root / "copy"
            fetched = self.run_json("get", f"k{size}", "-o", copy)
            self.assertEqual(fetched["bytes_verified"], size)
            self.assertEqual(copy.read_bytes(), path.read_bytes())
        again = self.run_json("put", path, "--key", "k3000001")
        self.assertEqual(again["objects"][0]["outcome"], "already there")

    def test_another_content_is_refused_unless_asked_for(self):
        first, second = self.write_file("a", 1000), self.write_file("b", 1000)
        self.run_terrace("put", first, "--key", "same")
        refused = self.run_terrace("put", second, "--key", "same", code=1)
        self.assertIn(b"--replace", refused.stderr)
        self.run_terrace("put", second, "--key", "same", "--replace")
        self.run_terrace("get", "same", "-o", self.root / "out")
        self.assertEqual((self.root / "out").read_bytes(), second.read_bytes())

    def test_ls_stat_rm(self):
        path = self.write_file("listed", 5000)
        self.run_terrace("put", path, "--key", "listed", "--durability", "nvme")
        listed = self.run_json("ls")
        self.assertIn("listed", json.dumps(listed))
        stat = self.run_json("stat", "listed")
        self.assertIn("5000", json.dumps(stat))
        self.assertIn("nvme", json.dumps(stat))
        self.run_terrace("rm", "listed")
        self.run_terrace("rm", "listed", code=1)
        self.run_terrace("stat", "listed", code=1)
        self.run_terrace("get", "listed", "-o", self.root / "none", code=1)
        self.assertFalse((self.root / "none").exists(), "half an object was left behind")

    def test_several_nodes_are_one_store(self):
        other = Node(self.root / "other")
        both = ("--node", f"{self.node.name},{other.name}")
        try:
            paths = [self.write_file(f"several{i}", 1000 + i) for i in range(16)]
            self.run_terrace(*both, "put", *paths, node=False)
            wanted = {str(path) for path in paths}
            alone = []
            for node in (both[1], self.node.name, other.name):
                listed = self.run_json("--node", node, "ls", node=False)
                alone.append(wanted & {entry["name"] for entry in listed["objects"]})
            self.assertEqual(alone[0], wanted)
            self.assertEqual(alone[1] | alone[2], wanted)
            self.assertFalse(alone[1] & alone[2], "an object lies on its owner alone")
            self.assertTrue(alone[1] and alone[2], "sixteen objects on one of two nodes")
            for path in paths:
                self.run_terrace(*both, "get", path, "-o", self.root / "out", node=False)
                self.assertEqual((self.root / "out").read_bytes(), path.read_bytes())
            refused = self.run_terrace(*both, "node", "status", node=False, code=2)
            self.assertIn(b"name one", refused.stderr)
            self.run_terrace(*both, "ls", "--namespaces", node=False)
            self.run_terrace(*both, "bench", "fetch", "--rounds", 1,
                             "--seconds-per-round", 0.3, "--working-set-mib", 32, node=False)
            self.run_terrace(*both, "rm", *paths, node=False)
        finally:
            other.stop()
        self.run_terrace(*both, "ls", node=False, code=2)

    def test_node_status_and_metrics_agree(self):
        status = self.run_json("node", "status")
        self.assertIn("dram", json.dumps(status))
        url = f"http://127.0.0.1:{self.node.ready['metrics_port']}/metrics"
        text = urllib.request.urlopen(url, timeout=10).read().decode()
        for name in ("terrace_server_operations_total", "terrace_storage_used_bytes",
                     "terrace_server_operation_latency_seconds_bucket",
                     "terrace_storage_crc_failures_total", "terrace_server_uptime_seconds",
                     "terrace_storage_recovery_seconds", "terrace_storage_evictions_total",
                     "terrace_storage_departures_total",
                     "terrace_storage_key_misses_total", "terrace_storage_evicted_value_total",
                     "terrace_storage_eviction_idle_seconds_bucket",
                     "terrace_transport_queued_bytes", "terrace_storage_device_requests", "terrace_server_fetch_misses_total"):
            self.assertRegex(text, rf"(?m)^{name}\b", name)
        for line in text.splitlines():
            self.assertRegex(line, r'^(#.*|[a-z_]+(\{.*\})? [-+0-9.eEinfNa]+)$')

    def test_explain_says_where_and_why(self):
        path = self.write_file("explained", 5000)
        self.run_terrace("put", path, "--key", "explained", "--durability", "nvme")
        said = self.run_json("explain", "explained")["nodes"][0]
        self.assertEqual([copy["tier"] for copy in said["copies"]], ["dram", "nvme"])
        self.assertTrue(said["durable"])
        self.assertGreater(said["value"], 0)
        self.assertEqual((said["recompute_us"], said["importance"], said["uses"]), (0, 1, 1))
        text = self.run_terrace("explain", "explained").stdout
        self.assertIn(b"there is room", text)
        self.assertIn(b"nobody said how long, importance 1", text)
        self.run_terrace("rm", "explained")
        self.run_terrace("get", "explained", "-o", self.root / "none", code=1)
        gone = self.run_json("explain", "explained", code=1)["nodes"][0]
        self.assertFalse(gone["here"])
        self.assertEqual(gone["departures"][0]["reason"], "erased")
        self.assertGreaterEqual(gone["departures"][0]["misses"], 1)
        self.assertIn(b"erased", self.run_terrace("explain", "explained", code=1).stdout)
        never = self.run_terrace("explain", "never-put", code=1).stdout
        self.assertIn(b"nothing is remembered", never)
        self.run_terrace("explain", "k", "--namespace", "no-such", code=1)

    def test_retention_is_kept_and_explained(self):
        path = self.write_file("dear", 5000)
        self.run_terrace("put", path, "--key", "dear", "--priority", "high", "--ttl-s", "3600",
                         "--pin", "--type", "system", "--turn", "3", "--session", "s-1")
        said = self.run_json("explain", "dear")["nodes"][0]
        self.assertEqual((said["priority"], said["pinned"], said["type"], said["turn"],
                          said["session"]), ("high", True, "system", 3, "s-1"))
        self.assertGreater(said["expires_unix_s"], 0)
        self.assertGreaterEqual(said["namespace_pinned_bytes"], 5000)
        self.assertIn(b"pinned", self.run_terrace("explain", "dear").stdout)
        self.run_terrace("unpin", "dear")
        self.assertFalse(self.run_json("explain", "dear")["nodes"][0]["pinned"])
        self.run_terrace("put", path, "--key", "brief", "--ttl-s", "1")
        deadline = time.time() + 20
        while self.run_json("explain", "brief", code=None)["ok"] and time.time() < deadline:
            time.sleep(0.1)
        gone = self.run_json("explain", "brief", code=1)["nodes"][0]
        self.assertEqual(gone["departures"][0]["reason"], "expired")
        self.run_terrace("get", "brief", "-o", self.root / "none", code=1)
        self.run_terrace("put", path, "--type", "x" * 17, code=2)

    def test_pins_moves_and_clears(self):
        for tenant in ("anna", "bert"):
            for name in ("a/1", "a/2", "b/1"):
                self.run_terrace("--tenant", tenant, "put", self.write_file("moved", 5000),
                                 "--key", name, "--durability", "memory")
        mine = ("--tenant", "anna")
        moved = self.run_json(*mine, "move", "a/1", "b/1", "--to", "nvme")
        self.assertTrue(moved["ok"])
        copies = lambda name: [copy["tier"] for copy in self.run_json(
            *mine, "explain", name)["nodes"][0]["copies"]]
        self.assertEqual(copies("a/1"), ["nvme"])
        self.run_terrace(*mine, "move", "a/1", "--to", "dram")
        self.assertEqual(copies("a/1"), ["dram", "nvme"])
        self.run_terrace(*mine, "move", "a/1", "--to", "tape", code=2)
        self.assertIn(b"no shared tier", self.run_terrace(*mine, "move", "a/1", "--to", "shared",
                                                           code=1).stdout)
        self.run_terrace(*mine, "move", "nothing", "--to", "nvme", code=1)
        self.run_terrace(*mine, "pin", "a/2")
        clear = (*mine, "clear", "--namespace", "files")
        self.assertIn(b"--yes", self.run_terrace(*clear, code=1).stderr)
        self.run_terrace(*clear, "--json", code=1)
        cleared = self.run_json(*clear, "--tier", "nvme", "--yes")
        self.assertEqual(copies("a/1"), ["dram"])
        self.assertEqual(cleared["kept"], 1)
        self.run_terrace(*mine, "explain", "b/1", code=1)  # it was nowhere else
        cleared = self.run_json(*clear, "--prefix", "a/", "--yes")
        self.assertEqual((cleared["cleared"], cleared["kept"]), (1, 1))
        self.run_terrace(*mine, "unpin", "a/2", "no-such", code=1)
        cleared = self.run_json(*clear, "--yes")
        self.assertEqual((cleared["cleared"], cleared["kept"], cleared["failed"]), (1, 0, 0))
        self.run_terrace(*mine, "clear", "--namespace", "none", "--yes", code=1)
        self.assertEqual(len(self.run_json("--tenant", "bert", "ls")["objects"]), 3)

    def test_tier_status(self):
        path = self.write_file("status", 5000)
        self.run_terrace("put", path, "--key", "status")
        tiers = {tier["tier"]: tier for tier in self.run_json("tier", "status")["nodes"][0]["tiers"]}
        self.assertEqual(set(tiers), {"dram", "nvme"})
        for tier in tiers.values():
            self.assertEqual(tier["health"], "ok")
            self.assertGreater(tier["objects"], 0)
            self.assertEqual(tier["free_bytes"] + tier["used_bytes"], tier["capacity_bytes"])
        self.assertIn(b"missed because", self.run_terrace("tier", "status").stdout)

    def test_a_tier_is_verified_and_drained(self):
        path = self.write_file("checked", 300_000)
        self.run_terrace("put", path, "--key", "checked", "--durability", "nvme")
        for tier in ("nvme", "dram"):
            done = self.run_json("tier", "verify", tier, "--mib-per-s", "10000")["nodes"][0]
            self.assertGreater(done["objects"], 0)
            self.assertGreaterEqual(done["bytes"], 300_000)
            self.assertEqual(done["bad"], 0)
        self.assertIn(b"0 damaged", self.run_terrace("tier", "verify", "nvme").stdout)
        self.run_terrace("tier", "verify", "shared", code=2)
        self.assertEqual(self.run_json("tier", "drain", "dram")["nodes"][0]["failed"], 0)
        self.run_terrace("tier", "resize", "shared", "1GiB", code=2)  # there is none

    def capacity(self, node, tier):
        status = self.run_json("--node", node.name, "tier", "status", node=False)
        return {t["tier"]: t["capacity_bytes"] for t in status["nodes"][0]["tiers"]}[tier]

    def test_tiers_are_resized_and_nvme_stays_so(self):
        mib = 1 << 20
        directory = self.root / "resized-node"
        node = Node(directory)
        path = self.write_file("resized", 3_000_000)
        resize = ("tier", "resize")
        def terrace(*arguments, code=0):
            return self.run_terrace("--node", node.name, *arguments, node=False, code=code)
        try:
            terrace("put", path, "--key", "resized", "--durability", "nvme")
            terrace(*resize, "dram", "192MiB")
            self.assertEqual(self.capacity(node, "dram"), 192 * mib)
            self.assertIn(b"until the node ends", terrace(*resize, "dram", "32MiB").stdout)
            self.assertEqual(self.capacity(node, "dram"), 32 * mib)
            terrace(*resize, "nvme", "512MiB", "--device", "0")
            self.assertEqual(self.capacity(node, "nvme"), 511 * mib)
            self.assertIn(b"for good", terrace(*resize, "nvme", "64MiB", "--device", "0").stdout)
            self.assertEqual((directory / "terrace.dat").stat().st_size, 64 * mib)
            terrace(*resize, "nvme", "1MiB", "--device", "0", code=2)
            terrace(*resize, "nvme", "64MiB", "--device", "7", code=1)
            terrace(*resize, "nvme", "64MiB", code=2)
            terrace(*resize, "dram", "64MiB", "--device", "0", code=2)
            terrace(*resize, "dram", "1000TiB", code=2)
            terrace(*resize, "shared", "1GiB", code=2)  # there is none
        finally:
            node.stop()
        node = Node(directory)
        try:
            self.assertEqual(self.capacity(node, "nvme"), 63 * mib)
            self.assertEqual(self.capacity(node, "dram"), 128 * mib)
            terrace("get", "resized", "-o", self.root / "out")
            self.assertEqual((self.root / "out").read_bytes(), path.read_bytes())
        finally:
            node.stop()

    def test_a_node_that_is_killed_while_it_is_resized_keeps_what_it_promised(self):
        directory = self.root / "killed-node"
        paths = [self.write_file(f"killed{i}", 4_500_000 + i) for i in range(10)]
        sizes = ["64MiB", "512MiB", "128MiB", "256MiB"]
        for life in range(6):
            node = Node(directory)
            try:
                if life == 0:
                    self.run_terrace("--node", node.name, "put", *paths, "--durability",
                                     "nvme", node=False)
                for path in paths:
                    self.run_terrace("--node", node.name, "get", path, "-o", self.root / "out",
                                     node=False)
                    self.assertEqual((self.root / "out").read_bytes(), path.read_bytes())
                resizing = subprocess.Popen(
                    [PROGRAMS / "terrace", "--node", node.name, "tier", "resize", "nvme",
                     sizes[life % len(sizes)], "--device", "0"],
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(0.02 * life)
                node.process.kill()
                resizing.wait(timeout=60)
            finally:
                node.process.kill()
                node.stop()

    def test_the_shared_tier_is_verified(self):
        shared = self.root / "shared"
        shared.mkdir()
        node = Node(self.root / "beside-shared", "--shared-directory", shared,
                    "--shared-bytes-max", "1GiB", "--shared-list-period-ms", "100")
        self.addCleanup(node.stop)
        to = ("--node", node.name)
        verify = (*to, "tier", "verify", "shared", "--mib-per-s", "10000")

        def files(folder):
            return [path for path in (shared / folder).rglob("*") if path.is_file()]
        path = self.write_file("published", 300_000)
        for key in ("p/1", "p/2", "p/3"):
            self.run_terrace(*to, "put", path, "--key", key, "--durability", "shared", node=False)
        done = self.run_json(*verify, node=False)
        whole = done["nodes"][0]
        self.assertTrue(done["ok"] and whole["ok"])
        self.assertEqual((whole["objects"], whole["bad"], whole["skipped"]), (3, 0, 0))
        self.assertGreaterEqual(whole["bytes"], 900_000)
        with open(files("objects")[0], "r+b") as file:
            file.seek(100_000)
            file.write(b"rot")
        (shared / "objects" / "README").write_text("not an object")
        done = self.run_json(*verify, node=False, code=1)
        found = done["nodes"][0]
        self.assertFalse(done["ok"])
        self.assertEqual((found["objects"], found["bad"], found["skipped"]), (3, 1, 1))
        self.assertEqual((len(files("quarantine")), len(files("objects"))), (1, 3))
        text = self.run_terrace(*verify, node=False).stdout
        self.assertIn(b"2 objects of shared read and checked", text)
        self.assertIn(b"1 skipped", text)
        (shared / "objects" / ("0" * 64)).write_text("where a namespace would be")
        self.assertIn(b"incomplete: list", self.run_terrace(*verify, node=False, code=2).stdout)
        # One pass at a time; it goes on as long as its command.
        self.run_terrace(*to, "put", self.write_file("large", 30_000_000), "--key", "p/large",
                         "--durability", "shared", node=False)

        def begin():
            return subprocess.Popen([PROGRAMS / "terrace", *verify[:-1], "1"],
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        slow = begin()
        refused = b"another pass runs"
        while refused not in self.run_terrace(*verify, node=False, code=None).stderr:
            if slow.poll() is not None:  # it met the other one
                slow = begin()
        slow.kill()
        slow.wait()
        while refused in self.run_terrace(*verify, node=False, code=None).stderr:
            time.sleep(0.1)
        self.assertEqual(self.run_json(*verify, node=False, code=2)["nodes"][0]["objects"], 3)

    def test_a_device_is_drained_and_comes_back(self):
        def health():
            return [d["health"] for d in self.run_json("tier", "status")["nodes"][0]["devices"]]
        self.assertEqual(health(), ["ok"])
        self.run_terrace("tier", "drain", "nvme", "--device", "0")
        self.assertEqual(health(), ["draining"])
        self.run_terrace("tier", "drain", "nvme", "--device", "0", "--undo")
        self.assertEqual(health(), ["ok"])
        self.run_terrace("tier", "drain", "nvme", "--device", "7", code=1)
        self.run_terrace("tier", "drain", "nvme", code=2)
        self.run_terrace("tier", "drain", "dram", "--device", "0", code=2)

    def test_a_file_is_not_trimmed_and_the_node_says_why(self):
        done = self.run_json("tier", "trim", "nvme", code=1)
        device = done["nodes"][0]["devices"][0]
        self.assertFalse(done["ok"] or device["ok"])
        self.assertEqual(device["bytes"], 0)
        self.assertIn("only block devices", device["error"])
        self.assertIn(b"only block devices",
                      self.run_terrace("tier", "trim", "nvme", "--device", "0", code=1).stdout)
        self.run_terrace("tier", "trim", "nvme", "--device", "7", code=1)
        self.run_terrace("tier", "trim", "dram", code=2)

    def test_a_block_device_is_trimmed(self):
        backing = self.root / "backing"
        with open(backing, "wb") as file:
            file.truncate(256 << 20)
        made = subprocess.run(["losetup", "--find", "--show", str(backing)], capture_output=True,
                              check=False) if shutil.which("losetup") else None
        if made is None or made.returncode != 0:
            self.skipTest("no loop device can be made here")
        device = made.stdout.decode().strip()
        self.addCleanup(subprocess.run, ["losetup", "--detach", device], check=False)
        node = Node(self.root / "on-device", "--data-file", device, "--format-block-device", "true")
        self.addCleanup(node.stop)
        to = ("--node", node.name)

        def terrace(*arguments, code=0):
            return json.loads(self.run_terrace(*to, "--json", *arguments, node=False,
                                               code=code).stdout)
        path = self.write_file("large", 40 << 20)
        for key in ("stays", "goes"):
            terrace("put", path, "--key", key, "--durability", "nvme")
        os.sync()
        before = backing.stat().st_blocks * 512
        self.assertGreater(before, 80 << 20)
        terrace("rm", "goes")
        trimmed = terrace("tier", "trim", "nvme", "--device", "0")["nodes"][0]["devices"][0]
        self.assertTrue(trimmed["ok"])
        self.assertGreater(trimmed["bytes"], 39 << 20)
        self.assertLess(backing.stat().st_blocks * 512, before - (38 << 20))
        status = terrace("tier", "status")["nodes"][0]["devices"][0]
        self.assertEqual(status["trimmed_bytes"], trimmed["bytes"])
        again = terrace("tier", "trim", "nvme")["nodes"][0]["devices"][0]
        self.assertEqual((again["ok"], again["bytes"]), (True, 0))
        back = self.root / "back"
        terrace("get", "stays", "-o", back)
        self.assertEqual(back.read_bytes(), pathlib.Path(path).read_bytes())

    def test_doctor_finds_the_node(self):
        done = self.run_terrace("doctor", "--directory", self.root)
        self.assertRegex(done.stdout.decode(), r"ok\s+node 127")

    def test_wrong_usage_is_two_and_says_what(self):
        for arguments in (("no-such-command",), ("put",), ("get", "k", "--bogus"),
                          ("replay", "--trace", "generated", "--speed", "-1"),
                          ("bench", "fetch", "--layers", "0")):
            done = self.run_terrace(*arguments, code=2)
            self.assertTrue(done.stderr or done.stdout, arguments)
        unreachable = self.run_terrace("--node", "127.0.0.1:1", "ls", code=2, node=False)
        self.assertIn(b"127.0.0.1:1", unreachable.stderr)

    def test_every_help_has_examples(self):
        top = self.run_terrace("--help", node=False).stdout.decode()
        for name in re.findall(r"^  ([a-z]+)  ", top, re.M):
            text = self.run_terrace(name, "--help", node=False).stdout.decode()
            self.assertIn("Examples:", text, name)

    def test_replay_of_a_generated_trace(self):
        report = self.run_json("replay", "--trace", "generated", "--requests", "150",
                               "--speed", "100")
        self.assertEqual(report["requests"], 150)
        self.assertEqual(report["wrong_bytes"], 0)
        self.assertGreater(report["prefix_hit"], 0.05)
        self.assertGreater(report["bytes_checked"], 0)
        self.assertEqual(report["fetch"]["count"] > 0, True)

    def test_replay_reads_the_formats(self):
        (self.root / "m.jsonl").write_text(
            '{"timestamp": 0, "input_length": 1024, "output_length": 3, "hash_ids": [1, 2]}\n'
            '{"timestamp": 900, "input_length": 1536, "output_length": 3, "hash_ids": [1, 2, 3]}\n')
        report = self.run_json("replay", "--trace", self.root / "m.jsonl", "--seed", "7",
                               "--speed", "0")
        self.assertEqual((report["blocks"], report["prefix_hit"]), (5, 0.4))
        (self.root / "bad.jsonl").write_text('{"timestamp": "x"}\n')
        self.run_terrace("replay", "--trace", self.root / "bad.jsonl", code=2)


class OwnNodeTest(unittest.TestCase):
    run_terrace = CliTest.run_terrace
    run_json = CliTest.run_json

    def test_fsck_of_a_stopped_node_and_of_a_damaged_one(self):
        with tempfile.TemporaryDirectory(prefix="terrace-fsck-") as scratch:
            root = pathlib.Path(scratch)
            self.node = Node(root / "data")
            content = os.urandom(300_000)
            (root / "file").write_bytes(content)
            self.run_terrace("put", root / "file", "--key", "k")
            self.run_terrace("fsck", root / "data", code=2)  # a node has it
            self.assertEqual(self.node.stop(), 0)
            report = self.run_json("fsck", root / "data", node=False)
            self.assertEqual((report["objects_good"], report["units_bad"]), (1, 0))
            data = root / "data" / "terrace.dat"
            at = data.read_bytes().index(content[100_000:100_100])
            with open(data, "r+b") as file:
                file.seek(at)
                file.write(bytes([content[100_000] ^ 1]))
            report = self.run_json("fsck", root / "data", node=False, code=1)
            self.assertEqual(report["units_bad"], 1)
            self.run_terrace("fsck", root / "data", "--rebuild", node=False, code=1)
            report = self.run_json("fsck", root / "data", node=False)
            self.assertEqual(report["objects_good"], 0)

    def test_a_lost_index_comes_back_with_everybodys_own(self):
        with tempfile.TemporaryDirectory(prefix="terrace-fsck-") as scratch:
            root = pathlib.Path(scratch)
            for loss in ("damaged", "deleted", "names too"):
                data = root / loss
                self.node = Node(data)
                content = os.urandom(300_000)
                (root / "file").write_bytes(content)
                self.run_terrace("--tenant", "alice", "put", root / "file", "--key", "secret",
                                 "--durability", "nvme")
                self.assertEqual(self.node.stop(), 0)
                if loss == "deleted":
                    shutil.rmtree(data / "index")
                    self.node = Node(data)  # knows no object, but still whose the numbers are
                    self.run_terrace("--tenant", "bob", "ls")  # opens a namespace of bob's
                    self.node.stop()
                for manifest in (data / "index").glob("MANIFEST-*"):
                    manifest.write_bytes(b"not a manifest")
                if loss == "names too":
                    (data / "NAMESPACES").unlink()
                self.run_terrace("fsck", data, "--rebuild", node=False, code=1)
                self.node = Node(data)
                (root / "other").write_bytes(b"bob's")
                self.run_terrace("--tenant", "bob", "put", root / "other", "--key", "new")
                self.assertNotIn("secret", json.dumps(self.run_json("--tenant", "bob", "ls")))
                self.run_terrace("--tenant", "alice", "get", "secret", "-o", root / "back",
                                 code=1 if loss == "names too" else 0)
                if loss != "names too":
                    self.assertEqual((root / "back").read_bytes(), content)
                self.node.stop()

    def test_the_demo_of_the_tiers(self):
        report = self.run_json("demo", "--tiers", node=False, timeout=300)
        self.assertTrue(report["ok"], json.dumps(report["checks"], indent=1))
        self.assertEqual(len(report["checks"]), 14)

    def test_a_small_demo(self):
        with tempfile.TemporaryDirectory(prefix="terrace-docs-") as scratch:
            words = "KV caches are kept in chunks; a chunk is an immutable object. " * 40
            (pathlib.Path(scratch) / "page.md").write_text(words)
            report = self.run_json("demo", "--docs", scratch, "--rounds", "1",
                                   "--document-tokens", "1280", node=False, timeout=600)
            self.assertTrue(report["ok"], json.dumps(report["checks"], indent=1))
            self.assertEqual(len(report["checks"]), 11)


if __name__ == "__main__":
    unittest.main()
