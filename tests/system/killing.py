"""Kill a node at a moment, start it again, and look whether anything that it acknowledged is lost."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset
from pynetdicom import AE

from node.ledger.schema import JobState, Result, ResultState
from tests.ct import new_ct_series
from tests.pacs import Faults, Pacs
from tests.system.node_process import NodeProcess
from tests.waiting import wait_until

SLICES = 40


@dataclass
class Sender:
    """A console that sends a series, on a thread of its own, and remembers what was acknowledged."""

    series: list[Dataset]
    address: tuple[str, int]
    acknowledged: dict[str, Dataset] = field(default_factory=dict)

    def start(self) -> None:
        """Send the whole series over one association, as far as the node lets it."""
        self._thread = threading.Thread(target=self.send)
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the association."""
        self._thread.join()

    def send(self) -> None:
        """Send the whole series, here and now."""
        ae = AE("CONSOLE")
        ae.add_requested_context(self.series[0].SOPClassUID)
        association = ae.associate(*self.address, ae_title="RTNODE")
        for dataset in self.series:
            status = association.send_c_store(dataset).get("Status") if association.is_established else None
            if status is None:
                return
            if status == 0x0000:
                self.acknowledged[str(dataset.SOPInstanceUID)] = dataset
        association.release()


@dataclass
class Kill:
    """One round on a running node: a series comes, and the node dies somewhere on its way."""

    node: NodeProcess
    pacs: Pacs
    slices: int = SLICES
    series: list[Dataset] = field(init=False)

    def __post_init__(self) -> None:
        self.series = new_ct_series(self.slices)
        self.sender = Sender(self.series, self.node.address)
        self._taken_before = len(self.pacs.datasets)

    def at(self, moment: Callable[["Kill"], None]) -> None:
        """Send, wait for the moment, kill, start again, and send again what was not acknowledged."""
        self.sender.start()
        moment(self)
        self.node.kill()
        self.pacs.go_on.set()
        self.sender.join()
        self.node.start()
        if len(self.sender.acknowledged) < self.slices:
            self.sender.send()

    @property
    def taken(self) -> list[Dataset]:
        """What the PACS has taken in this round."""
        return self.pacs.datasets[self._taken_before :]

    def faults(self) -> list[str]:
        """What is wrong after the round; it waits for the result first."""
        faults = [f"lost: {uid}" for uid in self.node.lost(self.sender.acknowledged)]
        try:
            wait_until(lambda: len(self._taken_uids()) >= self.slices, what="the result arrives")
            self.node.wait_until_idle()
        except AssertionError as error:
            faults.append(str(error))
        if len(self._taken_uids()) != self.slices:
            faults.append(f"{len(self._taken_uids())} instances arrived, not {self.slices}")
        by_source = {source_of(dataset): dataset for dataset in self.taken}
        if any(by_source[source_of(dataset)] != dataset for dataset in self.taken):
            faults.append("an instance came twice, and not as the same")
        return faults

    def _taken_uids(self) -> set[str]:
        return {str(dataset.SOPInstanceUID) for dataset in self.taken}


class DecisionKill(Kill):
    """One round on a node whose results are all held: it dies, with the command, while a person releases one."""

    early: str = ""

    def at(self, moment: Callable[["Kill"], None]) -> None:
        """Send, begin to release, wait for the moment, kill both, start the node, and release what is still held."""
        jobs = len(self.node.jobs())
        self.sender.send()
        with self.node.ledger() as ledger:
            wait_until(lambda: ledger.jobs.counts() == {JobState.FINISHED: jobs + 1}, what="the result is held")
        result_id = self._result().id
        command = self.node.begin("release", str(result_id), "--by", "Ohta", "--why", "compared")
        moment(self)
        command.kill()
        self.node.kill()
        command.wait()
        if self._result().state == ResultState.HELD and self.taken:
            self.early = "a held result was sent"
        self.node.start()
        if self._result().state == ResultState.HELD:
            self.node.command("release", str(result_id), "--by", "Ohta", "--why", "compared again")

    def faults(self) -> list[str]:
        """What is wrong after the round; it waits for the result first."""
        return [*([self.early] if self.early else []), *super().faults()]

    def _result(self) -> Result:
        with self.node.ledger() as ledger:
            result = ledger.jobs.result_of(self.node.jobs()[-1].id)
        assert result is not None
        return result


def source_of(dataset: Dataset) -> str:
    """The instance that a result was made from."""
    return str(dataset.SourceImageSequence[0].ReferencedSOPInstanceUID)


@contextmanager
def stalling_pacs(taken_first: int) -> Iterator[Pacs]:
    """A PACS that takes so many instances and then keeps its answer back, until it is told to go on."""
    pacs = Pacs(Faults(stalls=[False] * taken_first + [True]))
    pacs.start()
    try:
        yield pacs
    finally:
        pacs.close()


def attempt_started(folder: Path) -> Callable[[Kill], None]:
    """The moment at which the pipeline runs; what waits for the gate may go on after it."""

    def moment(_: Kill) -> None:
        wait_until(lambda: list(folder.glob("attempt-*")), what="the job runs")
        (folder / "gate").touch()

    return moment
