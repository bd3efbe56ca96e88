"""The limits around one job, in a process of its own: each ends it. And what a worker loads."""

import subprocess
import sys
from pathlib import Path

from node.worker import EXIT_LIMIT

EATS_TOO_MUCH = """
import sys, threading
from pathlib import Path
from node.worker import _memory_limit
with _memory_limit(0.0, Path(sys.argv[1])):
    threading.Event().wait()
"""


def test_the_memory_limit_holds_where_its_note_can_not_be_written(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", EATS_TOO_MUCH, tmp_path / "missing"], check=False, timeout=60)
    assert ended.returncode == EXIT_LIMIT


def test_a_worker_takes_the_time_to_load_torch_only_for_a_pipeline_with_a_network() -> None:
    asked = "import sys, node.worker, pipelines.copy_series; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False, timeout=60)
    assert (run.stdout, run.stderr) == ("False\n", "")
