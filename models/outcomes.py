"""What became of patients: a time to an event, or yes or no; and the cohort that they make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models.survival.cohort import Flags, Floats

SIMULATED = "SIMULATED COHORT - NO CLINICAL MEANING"
"""What every card and report says whose model was trained on made-up patients."""


class OutcomesError(Exception):
    """Outcomes can not be used; the message is one plain sentence."""


class CohortStatement(BaseModel):
    """What a site says of its cohort."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    """A few words: `oesophagus, our hospital, 2015 to 2022`."""
    endpoint: str = Field(min_length=1)
    """What the event or the outcome is, in plain words: `death`, `biochemical failure`."""
    is_simulated: bool = False


class TrainingCohort(CohortStatement):
    """The patients that a model was trained on."""

    patients: int = Field(ge=2)
    events: int = Field(ge=1)
    """Patients with the event or the outcome."""

    def sentence(self) -> str:
        """The cohort as a report states it."""
        said = f"{self.name}: {self.patients} patients, {self.events} with {self.endpoint}"
        return f"{SIMULATED}. {said}" if self.is_simulated else said


@dataclass(frozen=True)
class EventTime:
    """A patient was watched for so long, and the event came then or did not."""

    time_d: float
    event: bool


Outcome: TypeAlias = EventTime | bool
"""A bool says whether the patient had the outcome."""


@dataclass(frozen=True)
class Outcomes:
    """What became of the patients of a cohort; all alike, times or yes and no."""

    statement: CohortStatement
    of_patient: Mapping[str, Outcome]

    @property
    def kind(self) -> Literal["survival", "classification"]:
        """Which they are."""
        are_times = {isinstance(one, EventTime) for one in self.of_patient.values()}
        if len(are_times) != 1:
            raise OutcomesError("The outcomes are neither all times to an event nor all yes or no")
        return "survival" if are_times.pop() else "classification"

    def times_d(self, patients: Sequence[str]) -> Floats:
        """How long they were watched, (n,)."""
        return np.array(
            [one.time_d for one in map(self.of_patient.__getitem__, patients) if isinstance(one, EventTime)]
        )

    def events(self, patients: Sequence[str]) -> Flags:
        """Who had the event or the outcome, (n,)."""
        found = map(self.of_patient.__getitem__, patients)
        return np.array([one.event if isinstance(one, EventTime) else one for one in found], np.bool_)
