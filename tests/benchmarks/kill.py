"""kill -9 of a node at random moments: what it acknowledged has to be there, what it made has to arrive as one thing.

    python -m tests.benchmarks.kill --rounds 20

Exit status 1 on a loss.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.pacs import Pacs, pacs
from tests.system.killing import SLICES, DecisionKill, Kill
from tests.system.node_process import NodeProcess, copying, node_process
from tests.waiting import wait_until

RECEIVE_S, JOB_S, DELIVERY_S, DECISION_S = 1.5, 1.5, 0.8, 4.0
"""About how long each phase takes on a slow machine; the moment is drawn from the whole of it."""


@dataclass
class Tally:
    """What came of the rounds of one phase."""

    rounds: int = 0
    acknowledged: int = 0
    faults: list[str] = field(default_factory=list)


def during_receive(kill: Kill) -> None:
    """Some time after the first acknowledgement."""
    wait_until(lambda: kill.sender.acknowledged)
    time.sleep(random.uniform(0, RECEIVE_S))


def during_job(kill: Kill) -> None:
    """Some time after the last acknowledgement: settling, routing, running, filing."""
    wait_until(lambda: len(kill.sender.acknowledged) == kill.slices)
    time.sleep(random.uniform(0, JOB_S))


def during_delivery(kill: Kill) -> None:
    """Some time after the first image of the result has come."""
    wait_until(lambda: kill.taken)
    time.sleep(random.uniform(0, DELIVERY_S))


def during_decision(_: Kill) -> None:
    """Some time after a person has called `rtnode release`: its start, its commit, the delivery that follows."""
    time.sleep(random.uniform(0, DECISION_S))


PHASES: Mapping[str, Callable[[Kill], None]] = {
    "receive": during_receive,
    "job": during_job,
    "delivery": during_delivery,
    "decision": during_decision,
}


PIPELINES: Mapping[type[Kill], Mapping[str, str]] = {Kill: {}, DecisionKill: {"class": "tests.trials:HeldCopy"}}
"""What the pipeline of each kind of round has besides copying."""


def measured(rounds: int, slices: int = SLICES, phases: Mapping[str, Callable[[Kill], None]] = PHASES) -> list[str]:
    """Kill a node so often in each phase; prints a line for each phase and returns the faults."""
    print(f"{'killed during':<15}{'rounds':>8}{'acknowledged':>14}{'faults':>8}")  # noqa: T201
    faults = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        peer = stack.enter_context(pacs())
        nodes: dict[type[Kill], NodeProcess] = {}
        for phase, moment in phases.items():
            kind = DecisionKill if moment is during_decision else Kill
            if kind not in nodes:
                pipeline = {**copying("PACS"), **PIPELINES[kind]}
                node = node_process(folder / kind.__name__, {"PACS": peer.peer()}, {"copy": pipeline})
                nodes[kind] = stack.enter_context(node)
            tally = _tally(nodes[kind], peer, rounds, slices, moment, kind)
            print(f"{phase:<15}{tally.rounds:>8}{tally.acknowledged:>14}{len(tally.faults):>8}", flush=True)  # noqa: T201
            for fault in tally.faults:
                print(f"    {fault}", flush=True)  # noqa: T201
            faults += tally.faults
    return faults


def _tally(
    node: NodeProcess, peer: Pacs, rounds: int, slices: int, moment: Callable[[Kill], None], kind: type[Kill]
) -> Tally:
    tally = Tally()
    for _ in range(rounds):
        kill = kind(node, peer, slices)
        kill.at(moment)
        tally.faults += kill.faults()
        tally.rounds += 1
        tally.acknowledged += len(kill.sender.acknowledged)
    return tally


def main() -> int:
    """Run the rounds that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="of each phase")
    parser.add_argument("--slices", type=int, default=SLICES)
    parser.add_argument("--phase", choices=sorted(PHASES), action="append", help="only this one; may be repeated")
    options = parser.parse_args()
    phases = {name: PHASES[name] for name in options.phase or PHASES}
    return 1 if measured(options.rounds, options.slices, phases) else 0


if __name__ == "__main__":
    sys.exit(main())
