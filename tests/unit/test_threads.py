"""What several threads do first at the same moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROCESSES = 6
"""In each, threads begin together once. Where they may not, about half of the processes crash."""
READS = {
    "policies": """
from fairturn.rules.policy import Policy
stored = '{"reps": {}, "rotas": {"all": {"members": []}}, "otherwise": {"rota": "all"}}'
read = lambda: Policy.load(stored)
""",
    "answers": """
from fairturn.edges.hubspot import answers
read = lambda: answers.read(answers.BatchResponse, '{"results": [{"id": "1"}], "errors": [{"code": "A"}]}')
""",
}
TOGETHER = """
import sys, threading
sys.setswitchinterval(1e-6)
{0}
barrier = threading.Barrier(8)
def work():
    barrier.wait()
    read()
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


@pytest.mark.parametrize("what", READS)
def test_threads_may_be_the_first_to_read_together(what: str) -> None:
    script = TOGETHER.format(READS[what])
    for _ in range(PROCESSES):
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=False)  # noqa: S603
        assert done.returncode == 0, done.stderr.decode()
