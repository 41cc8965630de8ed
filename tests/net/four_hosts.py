#!/usr/bin/env python3
"""Four hosts on this machine: network namespaces joined at 1 Gb/s, one rank of impart on each.

Trains with each way to overlap the reduction with the backward pass, in turn, and prints one JSON object: the
number to look at is the speed of "polling", "thread" and "auto" against "blocking".

    tests/net/four_hosts.py --model resnet18 --batch 128

Needs root, and ip and tc (iproute2); says what is missing and ends with code 77 where namespaces are not
allowed. Hosts share this machine's cores, so speeds are those of a slow host on a slow network.
"""
import argparse
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77
WAYS = ("blocking", "polling", "thread", "auto")


class Hosts:
    """Namespaces joined by a bridge, each behind a link of limited speed in both directions."""

    def __init__(self, count, rate):
        self.name = f"imp{os.getpid() % 10000}"
        self.count = count
        self.rate = rate
        self.files = contextlib.ExitStack()

    def namespace(self, host):
        return f"{self.name}h{host}"

    @staticmethod
    def address(host):
        return f"10.99.77.{host + 1}"

    @staticmethod
    def command(*words):
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")

    def limit(self, device, namespace=None):
        within = ("ip", "netns", "exec", namespace) if namespace else ()
        self.command(*within, "tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", self.rate, "burst", "256kb",
                     "latency", "20ms")

    def open(self):
        try:
            # The bridge has a namespace of its own, so that nothing of this machine's network is touched.
            switch = f"{self.name}sw"
            self.command("ip", "netns", "add", switch)
            self.command("ip", "-n", switch, "link", "add", "name", "bridge0", "type", "bridge")
            self.command("ip", "-n", switch, "link", "set", "bridge0", "up")
            for host in range(self.count):
                space, port = self.namespace(host), f"p{host}"
                self.command("ip", "netns", "add", space)
                self.command("ip", "-n", switch, "link", "add", "name", port, "type", "veth", "peer", "name", "eth0",
                             "netns", space)
                self.command("ip", "-n", switch, "link", "set", port, "master", "bridge0", "up")
                self.command("ip", "-n", space, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
                self.command("ip", "-n", space, "link", "set", "eth0", "up")
                self.command("ip", "-n", space, "link", "set", "lo", "up")
                self.limit("eth0", space)
                self.limit(port, switch)
            self.agent = self.write_agent()
        except BaseException:
            self.close()
            raise

    def write_agent(self):
        """What mpirun uses in ssh's place: it enters the namespace, under a host name of its own."""
        directory = pathlib.Path(self.files.enter_context(tempfile.TemporaryDirectory(prefix="impart-net-")))
        agent = directory / "agent"
        cases = "\n".join(f"  {self.address(host)}) space={self.namespace(host)}; name=host{host} ;;"
                          for host in range(self.count))
        agent.write_text(f"""#!/bin/sh
case "$1" in
{cases}
esac
shift
exec ip netns exec "$space" unshare --uts sh -c 'hostname "$0" && exec sh -c "$1"' "$name" "$*"
""")
        agent.chmod(0o755)
        return agent

    def close(self):
        self.files.close()
        for space in [f"{self.name}sw"] + [self.namespace(host) for host in range(self.count)]:
            subprocess.run(("ip", "netns", "del", space), capture_output=True)

    def mpirun(self, *words, ranks=1, cwd=None):
        """Output of a program with so many ranks on each host."""
        hosts = ",".join(f"{self.address(host)}:{ranks}" for host in range(self.count))
        parameters = {"plm_rsh_agent": self.agent, "plm_rsh_no_tree_spawn": 1, "orte_keep_fqdn_hostnames": 1,
                      "btl": "self,vader,tcp", "btl_vader_single_copy_mechanism": "none", "pml": "ob1",
                      "btl_tcp_if_include": "eth0", "oob_tcp_if_include": "eth0",
                      "hwloc_base_binding_policy": "none", "mpi_yield_when_idle": 1}
        command = ["ip", "netns", "exec", self.namespace(0), "unshare", "--uts", "sh", "-c",
                   'hostname host0 && exec "$@"', "sh", "mpirun", "-n", str(ranks * self.count), "--host", hosts]
        for name, value in parameters.items():
            command += ["--mca", name, str(value)]
        # Open MPI 5 starts its ranks by PRRTE, which has other names, and warns of what it does not know.
        launcher = {"plm_ssh_agent": self.agent, "plm_ssh_no_tree_spawn": 1, "prte_keep_fqdn_hostnames": 1,
                    "prte_if_include": "eth0", "hwloc_default_binding_policy": "none"}
        launcher = {f"PRTE_MCA_{name}": str(value) for name, value in launcher.items()}
        environment = dict(os.environ, **launcher, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                           OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        done = subprocess.run([*command, *map(str, words)], env=environment, stdin=subprocess.DEVNULL, cwd=cwd,
                              capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            command = " ".join(map(str, words))
            sys.exit(f"{command}\nfailed with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout


@contextlib.contextmanager
def four_hosts(rate="1gbit"):
    """Ends the program with code 77, and one line, where there can be none."""
    missing = [tool for tool in ("ip", "tc", "unshare", "mpirun") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        print(f"skipped: needs {', '.join(missing) or 'root'}", file=sys.stderr)
        sys.exit(SKIPPED)
    hosts = Hosts(4, rate)
    try:
        hosts.open()
    except OSError as error:
        print(f"skipped: network namespaces are not allowed here ({error})", file=sys.stderr)
        sys.exit(SKIPPED)
    with contextlib.closing(hosts):
        yield hosts


def measure(hosts, options):
    speeds = {way: [] for way in options.ways}
    for _ in range(options.rounds):
        for way in options.ways:
            out = hosts.mpirun(options.impart, "bench", "--model", options.model, "--batch", options.batch, "--shards",
                               options.shards, "--steps", options.steps, "--threads", 1, "--overlap", way, "--json")
            speeds[way].append(json.loads(out))
    rows = {}
    for way, runs in speeds.items():
        ratios = [run["samples_per_second"] / first["samples_per_second"]
                  for run, first in zip(runs, speeds[options.ways[0]])]
        rows[way] = {"samples_per_second": round(statistics.median(run["samples_per_second"] for run in runs), 2),
                     "step_ms": round(statistics.median(run["step_ms"] for run in runs), 1),
                     "communication_ms": round(statistics.median(run["communication_ms"] for run in runs), 1),
                     f"against_{options.ways[0]}": round(statistics.median(ratios), 3)}
    return {"hosts": hosts.count, "rate": hosts.rate, "model": options.model, "batch": options.batch,
            "steps": options.steps, "rounds": options.rounds, "overlap": rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--impart", type=pathlib.Path, default=ROOT / "build/release/bin/impart", help="the program")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--batch", type=int, default=128, help="samples of all hosts together")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", default="1gbit")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options = parser.parse_args()
    with four_hosts(options.rate) as hosts:
        json.dump(measure(hosts, options), sys.stdout, indent=2)
        print()


if __name__ == "__main__":
    main()
