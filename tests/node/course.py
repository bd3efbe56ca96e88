"""A ledger with the routing above it, and series of a treatment that settle in it one after the other; no worker."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from pydicom.uid import ComprehensiveSRStorage, CTImageStorage, ExplicitVRLittleEndian, generate_uid
from sqlalchemy import select

from node.config import load_config
from node.ledger import Ledger
from node.ledger.jobs import Made
from node.ledger.schema import Delivery, Job, JobInput, JobState, LinkKind, ResultInstance, Series, SeriesState
from node.ledger.series import Arrival, Settlement
from node.linking import Linking
from node.storage import Identity
from pipelines.provenance import hashed_uid
from pipelines.stability import Verdict
from tests.node.released import FINDING
from tests.peers import config_folder

FRAME, STUDY = "1.2.3", "1.2.4"
FIRST_DAY = datetime(2025, 1, 20, 9, 30)
REPORTS = {"class": "tests.fraction_reports:FractionReport", "when": {"role": "cbct"}}


@dataclass
class Course:
    """The treatment of one patient; a series is called by a letter or the number of its fraction."""

    ledger: Ledger
    linking: Linking
    patient_id: str = "COURSE"
    uids: dict[str, str] = field(default_factory=dict)
    """Series Instance UIDs by name."""

    @classmethod
    def of(cls, ledger: Ledger, folder: Path, pipelines: Mapping[str, Mapping[str, object]] | None = None) -> "Course":
        """With one pipeline, `reports`, or with those that are given."""
        config = load_config(config_folder(folder, pipelines=pipelines or {"reports": REPORTS}))
        return cls(ledger, Linking(config, config.loaded_pipelines(), ledger, lambda _: False))

    def fraction(self, number: int, frames: Iterable[str] = (FRAME,)) -> Series:
        """The CBCT of a fraction settles; one is acquired each day."""
        return self.settles(str(number), "cbct", FIRST_DAY + timedelta(days=number), frames)

    def plan(self) -> None:
        """Planning CT and structure set settle."""
        self.settles("ct", "planning_ct", FIRST_DAY - timedelta(days=9))
        self.settles("structures", "structure_set")

    def settles(
        self,
        name: str,
        role: str,
        acquired_at: datetime | None = None,
        frames: Iterable[str] = (FRAME,),
        refers_to: Sequence[Series] = (),
        state: SeriesState = SeriesState.SETTLED,
    ) -> Series:
        """A series, or one more instance of it, comes, settles and is routed."""
        links = {(LinkKind.FRAME_OF_REFERENCE, frame) for frame in frames}
        links |= {(LinkKind.SERIES, one.series_instance_uid) for one in refers_to}
        series = self.receives(name)
        count = len(self.ledger.series.instances(series.id))
        settlement = Settlement(state, role, None, frozenset(links), acquired_at=acquired_at)
        assert self.ledger.series.settle(series, count, settlement)
        settled = self.ledger.series.get(series.id)
        self.linking.route(settled)
        self.ledger.series.routed(settled)
        return settled

    def receives(self, name: str) -> Series:
        """An instance of a series comes, perhaps not the first; then what was made of it is superseded."""
        uid = self.uids.setdefault(name, hashed_uid([self.patient_id, name]))
        identity = Identity(self.patient_id, STUDY, uid, generate_uid())
        arrival = Arrival(identity, "CT", CTImageStorage, ExplicitVRLittleEndian, "ab" * 32, 512, "CONSOLE")
        self.ledger.series.receive(arrival, f"instances/{identity.sop_instance_uid}.dcm", lambda: None)
        return self.series(name)

    def series(self, name: str) -> Series:
        """As the ledger has it now."""
        rows = self.ledger.series.of_patient(self.patient_id)
        return next(row for row in rows if row.series_instance_uid == self.uids[name])

    def jobs(self, trigger: str, pipeline: str = "reports") -> list[Job]:
        """All that the pipeline has had on this trigger, oldest first."""
        of_trigger = (Job.series_id == self.series(trigger).id, Job.pipeline == pipeline)
        with self.ledger._database.read() as session:
            return list(session.scalars(select(Job).where(*of_trigger).order_by(Job.id)))

    def states(self, trigger: str, pipeline: str = "reports") -> list[str]:
        """Of the jobs on this trigger."""
        return [job.state for job in self.jobs(trigger, pipeline)]

    def current(self, trigger: str, pipeline: str = "reports") -> Job:
        """The only job on this trigger that is not superseded."""
        [job] = [job for job in self.jobs(trigger, pipeline) if job.state != JobState.SUPERSEDED]
        return job

    def inputs(self, trigger: str, pipeline: str = "reports") -> set[str]:
        """Names of the series that the current job on this trigger works on."""
        names = {uid: name for name, uid in self.uids.items()}
        given = self.ledger.jobs.inputs(self.current(trigger, pipeline).id)
        return {names[one.series_instance_uid] for one in given}

    def all_inputs(self) -> dict[str, set[str]]:
        """Of every job that is not superseded, by the name of its trigger."""
        given = select(Job.id, Job.series_id, Series.id, Series.series_instance_uid).join(
            JobInput, JobInput.job_id == Job.id
        )
        names = {uid: name for name, uid in self.uids.items()}
        found: dict[int, set[str]] = {}
        triggers: dict[int, str] = {}
        with self.ledger._database.read() as session:
            rows = given.join(Series, Series.id == JobInput.series_id).where(Job.state != JobState.SUPERSEDED)
            for job_id, trigger_id, series_id, uid in session.execute(rows):
                found.setdefault(job_id, set()).add(names[uid])
                if series_id == trigger_id:
                    triggers[job_id] = names[uid]
        assert len(set(triggers.values())) == len(found), "a trigger has two jobs"
        return {triggers[job_id]: inputs for job_id, inputs in found.items()}

    def deliveries(self, job: Job) -> list[Delivery]:
        """Of the report that the job has made."""
        result = self.ledger.jobs.result_of(job.id)
        return self.ledger.deliveries.of_result(result.id) if result else []

    def predecessors(self, trigger: str) -> list[int]:
        """Ids of the jobs whose reports the current job on this trigger continues or replaces."""
        named = self.ledger.succession.predecessors(self.current(trigger).id)
        return [int(one.sop_instance_uid.rpartition(".")[2]) for one in named]

    def run_next(self, verdict: Verdict = Verdict.RELEASE) -> str:
        """The next job runs, and makes one report; returns the name of its trigger."""
        [job] = self.ledger.jobs.claim(1)
        self.finish(job, verdict)
        return self.trigger_of(job)

    def trigger_of(self, job: Job) -> str:
        """Name of the series that started it."""
        uid = self.ledger.series.get(job.series_id).series_instance_uid
        return next(name for name, one in self.uids.items() if one == uid)

    def finish(self, job: Job, verdict: Verdict = Verdict.RELEASE) -> int | None:
        """A running job ends with one report, the number of the job in its UIDs; it goes to the PACS."""
        report = ResultInstance(
            study_instance_uid=STUDY,
            series_instance_uid=f"2.1.{job.id}",
            modality="SR",
            sop_class_uid=ComprehensiveSRStorage,
            sop_instance_uid=f"2.2.{job.id}",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            path=f"results/{job.id}/1.dcm",
            sha256="ab" * 32,
        )
        return self.ledger.jobs.finish(job, Made(verdict, [FINDING], [report], {"SR": ["PACS"]}))
