"""How long a cold start takes, beside the least that a function with boto3 can take.

    make smoke                               # builds for this machine
    .venv/bin/python -m bench.cold_start     # --runs 15, --built FOLDER for another build

Each run is a new process behind Lambda's runtime API, with AWS's own runtime client, which is fetched once; the sandbox
stands in for AWS and HubSpot. The floor is a function that makes one client of boto3 and one call. All take turns in
one session, so that only the ratios count, not the machine. Two times are told:

* init: from the start of the process until it asks for its first event, as Lambda reports it;
* answer: from the start of the process until its first event is answered, with all calls.

`processor` is the processor time of the answer: it leaves out how long the sandbox took, so its ratio is the one to
compare. As on Lambda, nothing that is compiled on the way can be kept.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import zipfile
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from bench.table import Table
from fairturn_console.policy import file
from fairturn_console.template import PATH
from fairturn_console.terminal import POLICY
from fairturn_sandbox import events
from fairturn_sandbox.cloud import REGION
from fairturn_sandbox.serve import INSIDE, opened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT: Final = PATH.parent
PYTHON: Final = os.environ.get("PYTHON313", str(ROOT / ".venv-sam/bin/python3.13"))
RUNTIME: Final = ROOT / ".aws-sam/runtime"
RUNTIME_CLIENT: Final = "awslambdaric==4.2.2"
FLOOR: Final = """
import boto3
queues = boto3.client("sqs")
def handler(event, context):
    return queues.get_queue_attributes(QueueUrl=event["queue"], AttributeNames=["QueueArn"])["Attributes"]
"""
BUILT: Final = ROOT / ".aws-sam/smoke"
FUNCTIONS: Final = ("Intake", "Assign", "Track", "Sweep")
COUNT: Final = "import sys, app; print(len(sys.modules))"


@dataclass(frozen=True, slots=True)
class Start:
    """One cold start, in seconds."""

    init: float
    answer: float
    processor: float


@dataclass(frozen=True, slots=True)
class Starts:
    """The cold starts of one function."""

    each: Sequence[Start]
    modules: int
    """That it has imported before its first event."""

    def middle(self, part: str) -> float:
        """The median of one of a start's times, in seconds."""
        return float(median(getattr(start, part) for start in self.each))

    def ratio(self, part: str, floor: Starts) -> float:
        """How many times the floor's it is: the median of the turns, in each of which both started."""
        turns = zip(self.each, floor.each, strict=True)
        return float(median(getattr(start, part) / getattr(least, part) for start, least in turns))


class NothingBuilt(Exception):
    """There is no build to start functions of."""


class RuntimeApi(HTTPServer):
    """Lambda's runtime API for one process: gives it one event, and notes when it comes for it and when it is done."""

    def __init__(self, event: Mapping[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), Invocations)
        self.event = json.dumps(event).encode()
        self.asked = self.answered = 0.0
        self.failure = ""
        self.done = threading.Event()
        self.gone = threading.Event()

    def handle_error(self, *_: object) -> None:
        """The process is ended while it waits for its next event."""


class Invocations(BaseHTTPRequestHandler):
    """One request of the runtime client."""

    server: RuntimeApi
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The next event: the first one, and then none for ever."""
        if self.server.asked:
            self.server.gone.wait()
            return
        self.server.asked = time.perf_counter()
        headers = {
            "Lambda-Runtime-Aws-Request-Id": "1",
            "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + 30_000),
            "Lambda-Runtime-Invoked-Function-Arn": "arn",
            "Content-Type": "application/json",
        }
        self._answer(200, self.server.event, headers)

    def do_POST(self) -> None:
        """The answer to the event, or an error."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.answered = time.perf_counter()
        if not self.path.endswith("/response"):
            self.server.failure = body.decode()
        self._answer(202, b"", {})
        self.server.done.set()

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def cold_start(code: Path, layer: Path, environment: Mapping[str, str], event: Mapping[str, Any]) -> Start:
    """Start a function and have it answer one event."""
    api = RuntimeApi(event)
    serving = threading.Thread(target=api.serve_forever, daemon=True)
    serving.start()
    variables = surroundings(code, layer, environment) | {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.server_port}"}
    begun = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603
        [PYTHON, "-S", "-m", "awslambdaric", "app.handler"],
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if not api.done.wait(60):
        api.failure = "no answer"
    process.send_signal(signal.SIGKILL)
    _, _, usage = os.wait4(process.pid, 0)
    api.gone.set()
    api.shutdown()
    api.server_close()
    if api.failure:
        raise SystemExit(f"{code.name}: {api.failure}")
    return Start(api.asked - begun, api.answered - begun, usage.ru_utime + usage.ru_stime)


def surroundings(code: Path, layer: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a function."""
    return {
        **environment,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_LAMBDA_FUNCTION_NAME": code.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "PYTHONPATH": f"{code}:{layer}:{RUNTIME}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def modules(code: Path, layer: Path, environment: Mapping[str, str]) -> int:
    """How many modules a function has imported before its first event."""
    done = subprocess.run(  # noqa: S603
        [PYTHON, "-S", "-c", COUNT],
        env=surroundings(code, layer, environment),
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def zipped(folder: Path) -> int:
    """The size of a folder as it is uploaded, in bytes."""
    whole = BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return whole.tell()


def bring_runtime() -> None:
    """Fetch, once, what Lambda's runtime has: its client, and boto3 in the version of the tests."""
    if RUNTIME.exists():
        return
    lines = (ROOT / "tests/requirements.txt").read_text().splitlines()
    pins = [line.rstrip("\\ ") for line in lines if line.startswith(("boto3==", "botocore=="))]
    quietly = ["--quiet", "--disable-pip-version-check"]
    subprocess.run(  # noqa: S603
        [PYTHON, "-m", "pip", "install", *quietly, "--target", str(RUNTIME), RUNTIME_CLIENT, *pins],
        stderr=subprocess.DEVNULL,  # complaints about packages that are elsewhere
        check=True,
    )


def measure(built: Path, runs: int) -> dict[str, Starts]:
    """Each function's starts: the floor's first. Raises NothingBuilt."""
    if not built.exists():
        raise NothingBuilt("nothing is built: make smoke")
    bring_runtime()
    starts: dict[str, list[Start]] = {"floor": [], "intake": [], "assign": [], "track": [], "sweep": []}
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        nothing, floor, variables = Path(folder), Path(folder) / "floor", Path(folder) / "env.json"
        floor.mkdir()
        (floor / "app.py").write_text(FLOOR)
        for _ in range(runs):
            with opened(file.load(POLICY), "127.0.0.1", variables):
                environments = json.loads(variables.read_text().replace(INSIDE, "127.0.0.1"))
                intake, assign, track, sweep = (environments[f"{name}Function"] for name in FUNCTIONS)
                webhook = events.sign(
                    events.load("contact-created"), events.SECRET, events.URL, int(time.time() * 1000)
                )
                layer = built / "CoreLayer/python"
                for name, code, packages, environment, event in (
                    ("floor", floor, nothing, intake, {"queue": intake["LEADS_QUEUE_URL"]}),
                    ("intake", built / "IntakeFunction", layer, intake, webhook),
                    ("assign", built / "AssignFunction", layer, assign, events.load("lead-queued")),
                    ("track", built / "TrackFunction", layer, track, events.load("change-queued")),
                    ("sweep", built / "SweepFunction", layer, sweep, events.load("sweep")),
                ):
                    starts[name].append(cold_start(code, packages, environment, event))
                    if name not in counts:
                        counts[name] = modules(code, packages, environment)
    return {name: Starts(each, counts[name]) for name, each in starts.items()}


def table(found: Mapping[str, Starts]) -> Table:
    """As it is shown: medians, and beside each how many times the floor's it is."""
    floor = next(iter(found.values()))
    rows = []
    for name, each in found.items():
        times = [f"{each.middle(part) * 1000:.0f} ms (× {each.ratio(part, floor):.2f})" for part in Start.__slots__]
        rows.append((name, *times, str(each.modules)))
    return Table(("", *Start.__slots__, "modules"), rows)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--built", type=Path, default=BUILT)
    options = parser.parse_args()
    try:
        found = measure(options.built, options.runs)
    except NothingBuilt as error:
        raise SystemExit(str(error)) from error
    print(table(found))
    print(f"layer: {zipped(options.built / 'CoreLayer') / 1e6:.2f} MB zipped")


if __name__ == "__main__":
    main()
