"""What became of the patients of a research collection: a table beside its index.

`outcomes.csv` has a line for each patient: `patient,time_d,event` (days from the start, 1 for the event) or
`patient,outcome` (1 for the outcome); `patient` is the pseudonym of the index. `cohort.yaml` says what the cohort is:
`name`, `endpoint`, and `is_simulated: true` for patients who were made up. Of these `truth.csv` (`patient,risk`) may
hold the risk that nobody else knows.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from models.outcomes import CohortStatement, EventTime, Outcome, Outcomes
from models.training.volumes import Split
from pipelines.base import PipelineError
from pipelines.collection_index import CollectedSeries, collections_below, paths_of, read_index

OUTCOMES, STATEMENT, TRUTH = "outcomes.csv", "cohort.yaml", "truth.csv"
_TIMES, _YES_NO = ["patient", "time_d", "event"], ["patient", "outcome"]


@dataclass(frozen=True)
class CollectedPatient:
    """Everything that a collection holds of one patient."""

    patient: str
    """Pseudonym."""
    split: Split
    folder: Path
    """Of the collection."""
    entries: tuple[CollectedSeries, ...]

    def series(self, role: str) -> list[list[Path]]:
        """Files of every series of this role.

        Raises
        ------
        InputRejected
            If the files of a series are not all there.
        """
        return [paths_of(self.folder, entry) for entry in self.entries if entry.role == role]


def read_outcomes(data: Path) -> Outcomes:
    """The outcomes of the collections at or below a folder; of several tables, all lines.

    Raises
    ------
    PipelineError
        If there is none, a table or statement is malformed, or two of them disagree.
    """
    tables = sorted(data.rglob(OUTCOMES))
    if not tables:
        raise PipelineError(f"{data} has no {OUTCOMES}: what became of the patients is not known")
    statements = {_statement(table.parent / STATEMENT) for table in tables}
    if len(statements) > 1:
        raise PipelineError(f"The files {STATEMENT} below {data} differ")
    found: dict[str, Outcome] = {}
    for table in tables:
        for patient, outcome in _outcomes(table).items():
            if found.setdefault(patient, outcome) != outcome:
                raise PipelineError(f"{table}: another table says otherwise of the patient {patient}")
    return Outcomes(statements.pop(), found)


def read_truth(data: Path) -> dict[str, float]:
    """The true risk of made-up patients, by patient; empty where there is no such table.

    Raises
    ------
    PipelineError
        If a table is malformed.
    """
    found: dict[str, float] = {}
    for path in sorted(data.rglob(TRUTH)):
        for line, row in enumerate(_rows(path, [["patient", "risk"]]), start=2):
            found[row["patient"]] = _number(path, line, row["risk"])
    return found


def write_cohort(
    folder: Path, statement: CohortStatement, outcomes: Mapping[str, Outcome], true_risk: Mapping[str, float]
) -> None:
    """Write the tables of a cohort beside its index."""
    folder.mkdir(parents=True, exist_ok=True)
    content = yaml.safe_dump(statement.model_dump(), sort_keys=False, allow_unicode=True)
    (folder / STATEMENT).write_text(content, encoding="utf-8")
    are_times = any(isinstance(one, EventTime) for one in outcomes.values())
    rows = [
        (patient, one.time_d, int(one.event)) if isinstance(one, EventTime) else (patient, int(one))
        for patient, one in outcomes.items()
    ]
    _write(folder / OUTCOMES, _TIMES if are_times else _YES_NO, rows)
    if true_risk:
        _write(folder / TRUTH, ["patient", "risk"], list(true_risk.items()))


def collected_patients(data: Path) -> list[CollectedPatient]:
    """Every patient of the collections at or below a folder; one without a split is a training patient.

    Raises
    ------
    InputRejected
        If an index can not be read.
    PipelineError
        If there is no collection, or a patient is in two of them.
    """
    found: dict[str, CollectedPatient] = {}
    for folder in collections_below(data):
        of_patient: dict[str, list[CollectedSeries]] = {}
        for entry in read_index(folder):
            of_patient.setdefault(entry.patient, []).append(entry)
        for patient, entries in of_patient.items():
            if patient in found:
                raise PipelineError(f"The patient {patient} is in two collections below {data}")
            split: Split | None = next((entry.split for entry in entries if entry.split), None)
            found[patient] = CollectedPatient(patient, split or "train", folder, tuple(entries))
    if not found:
        raise PipelineError(f"{data} has no research collection")
    return [found[patient] for patient in sorted(found)]


def _statement(path: Path) -> CohortStatement:
    try:
        return CohortStatement.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise PipelineError(f"{path} can not be read, and only it says what the cohort and its endpoint are") from error
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} does not state name and endpoint of the cohort") from error


def _outcomes(path: Path) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    for line, row in enumerate(_rows(path, [_TIMES, _YES_NO]), start=2):
        if row["patient"] in found:
            raise PipelineError(f"{path}, line {line}: the patient is there twice")
        found[row["patient"]] = _outcome(path, line, row)
    return found


def _outcome(path: Path, line: int, row: Mapping[str, str]) -> Outcome:
    word = row.get("event", row.get("outcome", ""))
    if word not in ("0", "1"):
        raise PipelineError(f"{path}, line {line}: an outcome is neither 0 nor 1")
    if "time_d" not in row:
        return word == "1"
    time_d = _number(path, line, row["time_d"])
    if not 0.0 < time_d < float("inf"):
        raise PipelineError(f"{path}, line {line}: the time is not above 0 days")
    return EventTime(time_d, word == "1")


def _number(path: Path, line: int, word: str) -> float:
    try:
        return float(word)
    except ValueError as error:
        raise PipelineError(f"{path}, line {line}: {word!r} is no number") from error


def _rows(path: Path, headings: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PipelineError(f"{path} can not be read") from error
    if list(reader.fieldnames or []) not in [list(one) for one in headings]:
        allowed = " or ".join(",".join(one) for one in headings)
        raise PipelineError(f"{path} does not begin with the line {allowed}")
    return rows


def _write(path: Path, heading: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(heading)
        writer.writerows(rows)
