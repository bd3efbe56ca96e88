"""Time from the last C-STORE response of a study to the first C-STORE request of its result at the destination.

    python -m tests.benchmarks.latency --studies 10 --slices 159 --matrix 512

The pipeline copies, and the node settles as it does by default: what is measured is the node, not a model.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.ct import new_ct_series
from tests.pacs import Pacs, pacs, send
from tests.system.node_process import NodeProcess, copying, node_process
from tests.waiting import wait_until


def latencies_s(studies: int, slices: int, matrix: int) -> list[float]:
    """One latency for each study, sent one after the other to one node."""
    with tempfile.TemporaryDirectory() as folder, pacs() as peer:
        settings: dict[str, Any] = {"settle": {}}
        pipelines = {"copy": copying("PACS")}
        with node_process(Path(folder) / "node", {"PACS": peer.peer()}, pipelines, settings=settings) as node:
            return [_latency_s(node, peer, slices, matrix) for _ in range(studies)]


def _latency_s(node: NodeProcess, peer: Pacs, slices: int, matrix: int) -> float:
    series = new_ct_series(slices, matrix)
    before = len(peer.associations)
    last_response_s: list[float] = []
    assert set(send(series, node.address, on_answer=lambda: last_response_s.append(time.monotonic()))) == {0x0000}
    wait_until(lambda: len(peer.associations) > before and len(peer.associations[-1].datasets) == slices, 120)
    return peer.associations[before].first_request_s - last_response_s[-1]


def main() -> None:
    """Print the median and the largest latency."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=10)
    parser.add_argument("--slices", type=int, default=40)
    parser.add_argument("--matrix", type=int, default=256)
    options = parser.parse_args()
    found_s = latencies_s(options.studies, options.slices, options.matrix)
    size = f"{options.studies} studies of {options.slices} x {options.matrix} x {options.matrix}"
    print(f"{size}: median {statistics.median(found_s):.2f} s, max {max(found_s):.2f} s")  # noqa: T201


if __name__ == "__main__":
    main()
