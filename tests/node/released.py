"""A ledger and a storage in which a job has just ended: what the working half of the node finds when it starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset

from node.ledger import Ledger
from node.ledger.jobs import LinkedSeries, Made
from node.ledger.schema import Delivery, Job, LinkKind, ResultInstance, SeriesState
from node.ledger.series import Arrival, Settlement
from node.storage import Identity, Storage, sha256_of
from pipelines.stability import Finding, Verdict
from tests.pipelines.made import ct_series, write

FINDING = Finding(name="largest_change_hu", value=0.0, unit="[hnsf'U]", verdict=Verdict.RELEASE, text="nothing changed")


@dataclass
class Released:
    """The state folder of a node."""

    folder: Path
    committing_peers: Sequence[str] = ()
    storage: Storage = field(init=False)
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.storage = Storage(self.folder)
        self.ledger = Ledger(f"sqlite:///{self.folder / 'ledger.sqlite3'}", self.committing_peers)

    def running_job(self, patient_id: str = "RAMP-1", key: str = "key") -> Job:
        """A job on one received series of five images."""
        self.send_series(patient_id, key)
        series = self.ledger.series.of_patient(patient_id)[-1]
        settlement = Settlement(SeriesState.SETTLED, "cbct", None, frozenset({(LinkKind.SERIES, "1.2")}))
        assert self.ledger.series.settle(series, 5, settlement)
        settled = self.ledger.series.get(series.id)
        assert self.ledger.jobs.queue("copy", key, [LinkedSeries("cbct", settled)])
        (job,) = self.ledger.jobs.claim(1)
        return job

    def result(self, peers: Mapping[str, Sequence[str]], verdict: Verdict = Verdict.RELEASE) -> list[Delivery]:
        """The job has made a CT series of five images; its deliveries, by modality of `peers`."""
        job = self.running_job()
        series = ct_series()
        folder = self.storage.root / "results" / str(job.id)
        folder.mkdir()
        paths = write(series, folder)[::-1]
        instances = [self._result_instance(one, path) for one, path in zip(series, paths, strict=True)]
        result_id = self.ledger.jobs.finish(job, Made(verdict, [FINDING], instances, peers))
        assert result_id is not None
        return self.ledger.deliveries.of_result(result_id)

    def delivery(self, delivery: Delivery) -> Delivery:
        """As it is now."""
        now = self.ledger.deliveries.get(delivery.id)
        assert now is not None
        return now

    def late_instance(self, patient_id: str = "RAMP-1") -> None:
        """One more image of the received series comes: what was made of it is superseded."""
        self._receive(ct_series(PatientID=patient_id, SOPInstanceUID="1.2.3.4")[0], "late")

    def send_series(self, patient_id: str = "RAMP-1", key: str = "key") -> None:
        """The images of the series come, perhaps not for the first time."""
        for dataset in ct_series(PatientID=patient_id):
            self._receive(dataset, key)

    def _receive(self, dataset: Dataset, key: str) -> None:
        identity = Identity(
            dataset.PatientID,
            dataset.StudyInstanceUID,
            dataset.SeriesInstanceUID,
            dataset.SOPInstanceUID,
        )
        content = f"{key} {dataset.SOPInstanceUID}".encode()
        path = self.storage.instance_path(identity)
        arrival = Arrival(
            identity, "CT", dataset.SOPClassUID, "1.2.840.10008.1.2.1", sha256_of(content), len(content), "CONSOLE"
        )
        with self.storage.incoming(content) as incoming:
            assert self.ledger.series.receive(arrival, path, lambda: self.storage.keep(incoming, path)) is None

    def _result_instance(self, dataset: Dataset, path: Path) -> ResultInstance:
        return ResultInstance(
            series_instance_uid=dataset.SeriesInstanceUID,
            modality="CT",
            sop_class_uid=dataset.SOPClassUID,
            sop_instance_uid=dataset.SOPInstanceUID,
            transfer_syntax_uid=dataset.file_meta.TransferSyntaxUID,
            path=str(path.relative_to(self.storage.root)),
            sha256=sha256_of(path.read_bytes()),
        )
