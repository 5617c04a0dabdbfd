"""What the machine is and how fast it could be."""

import os
import platform
import subprocess
import tempfile
from pathlib import Path


def peak() -> tuple[float, int]:
    """GFLOP/s of one core, and the bits of its vectors."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "peak"
        source = Path(__file__).parent / "peak.c"
        subprocess.run(["gcc", "-O3", "-march=native", "-ffp-contract=fast", source, "-o", program], check=True)
        rate, bits = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    return float(rate), int(bits)


def lscpu(*options: str) -> list[str]:
    """The lines that the command prints."""
    environment = os.environ | {"LC_ALL": "C"}
    done = subprocess.run(["lscpu", *options], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.splitlines()


def fields(lines: list[str]) -> dict[str, str]:
    """What "name: value" lines say; of equal names the last."""
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def clock(facts: dict[str, str]) -> str:
    """The largest one or, where nobody says, that of this moment."""
    now = fields(Path("/proc/cpuinfo").read_text().splitlines()).get("cpu MHz")
    for mhz, what in ((facts.get("CPU max MHz"), "at most"), (now, "now")):
        if mhz:
            return f", {float(mhz) / 1e3:.1f} GHz {what}"
    return ""


def machine() -> str:
    """Processor, clock, caches and memory in a line."""
    facts = fields(lscpu())
    name = facts.get("Model name", platform.machine())
    # Of one cache each, where the plain list gives sums; the first line is the heading.
    sizes = [line.split() for line in lscpu("--caches=NAME,ONE-SIZE")[1:]]
    caches = ", ".join(f"{level} {size}" for level, size in sizes if level != "L1i")
    memory = int(fields(Path("/proc/meminfo").read_text().splitlines())["MemTotal"].split()[0]) * 1024 / 1e9
    parts = [f"{name}, {os.cpu_count()} cores{clock(facts)}", *([f"caches {caches}"] if caches else [])]
    return "; ".join([*parts, f"{memory:.0f} GB of memory"])
