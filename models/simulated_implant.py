"""Made-up implants with a known hazard of failure: what the dose features of a cohort are tested and trained on.

The linear predictor has two parts. One is the coldness of the whole prostate, its D90, which a dose-volume histogram
shows. The other is the largest cold spot: the mean dose of the coldest millilitre in one round piece. A histogram only
knows the coldest millilitre of all pieces together, a thin rim as well as a hole. Both are those of the true dose in
the true shape. Times are Weibull's, as in `survival.simulated`; the scale is what makes the expected part of patients
with an event the wanted one.
"""

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage, optimize, signal

from models.intensity import Mask
from models.prostate_implant import SAMPLE_MM, Implant, ImplantSettings, Range, made_up_implant, sample_points_mm
from models.survival.cohort import Flags, Floats

D90_GY = (170.0, 15.0)
"""About mean and standard deviation in the cohort of the default settings: what the predictor counts from and in."""
COLDEST = (1.30, 0.15)
"""Likewise of the dose of the coldest millilitre, as a multiple of the prescription."""
BALL_MM = (3.0 * 1000.0 / (4.0 * np.pi)) ** (1.0 / 3.0)
"""Radius of one millilitre."""
HOTTEST = 2.0
"""Multiple of the prescription that a dose counts for at most in the coldest millilitre."""


class ImplantCohortSettings(BaseModel):
    """What a made-up cohort is like."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patients: int = Field(200, ge=2)
    effect: float = Field(1.0, ge=0.0)
    """On both parts of the predictor; 0 switches them off."""
    of_dose: float = 0.5
    """Logarithm of the hazard ratio for a D90 lower by one standard deviation."""
    of_cold_spot: float = 0.9
    """Likewise for a coldest millilitre that is colder by one."""
    event_part: float = Field(0.2, gt=0.0, lt=1.0)
    """Of the patients; published cohorts have 0.06 to 0.14, too few for cohorts of this size to learn from."""
    shape: float = Field(1.3, gt=0.0)
    watched_d: Range = (1500.0, 3600.0)
    """Patients without the event are censored evenly between these."""
    implant: ImplantSettings = ImplantSettings()


@dataclass(frozen=True)
class TrueMeasures:
    """Of the dose in the prostate, from samples of the exact shape."""

    volume_ml: float
    d90_gy: float
    v100_percent: float
    v150_percent: float
    coldest: float
    """Mean dose of the coldest round millilitre wholly inside, as a multiple of the prescription."""


@dataclass(frozen=True)
class ImplantCohort:
    """Patients, and the risk that nobody knows."""

    implants: tuple[Implant, ...]
    measures: tuple[TrueMeasures, ...]
    risk: Floats
    """(n,) true linear predictor: no model orders patients better."""
    time_d: Floats
    event: Flags


def simulated_implants(settings: ImplantCohortSettings, seed: int) -> ImplantCohort:
    """Draw a cohort; a patient's implant depends on the seed and on his number alone."""
    implants = tuple(
        made_up_implant(settings.implant, np.random.default_rng([seed, number])) for number in range(settings.patients)
    )
    return outcomes_of(implants, tuple(map(true_measures, implants)), settings, seed)


def outcomes_of(
    implants: tuple[Implant, ...], measures: tuple[TrueMeasures, ...], settings: ImplantCohortSettings, seed: int
) -> ImplantCohort:
    """A cohort of these implants; the seed decides, with the risk, who fails when."""
    risk = np.array([_risk(one, settings) for one in measures])
    random = np.random.default_rng([seed, len(implants), 1])
    censored = random.uniform(*settings.watched_d, size=len(risk))
    scale = _scale(risk, censored, settings)
    times = scale * (random.exponential(size=len(risk)) * np.exp(-risk)) ** (1.0 / settings.shape)
    # A day is the least that a follow-up can be.
    return ImplantCohort(implants, measures, risk, np.maximum(np.minimum(times, censored), 1.0), times <= censored)


def true_measures(implant: Implant) -> TrueMeasures:
    """Of one implant."""
    points, inside = sample_points_mm(implant.prostate)
    relative = implant.dose_gy(points[inside]) / implant.prescription_gy
    relative_zyx = np.zeros(inside.shape)
    relative_zyx[inside] = relative
    return TrueMeasures(
        volume_ml=float(len(relative)) * SAMPLE_MM**3 / 1000.0,
        d90_gy=float(np.percentile(relative, 10.0)) * implant.prescription_gy,
        v100_percent=100.0 * float((relative >= 1.0).mean()),
        v150_percent=100.0 * float((relative >= 1.5).mean()),
        coldest=_coldest(relative_zyx, inside),
    )


def _coldest(relative_zyx: Floats, inside: Mask) -> float:
    reach = int(BALL_MM / SAMPLE_MM)
    offsets = np.indices((2 * reach + 1,) * 3) - reach
    ball = (offsets**2).sum(axis=0) * SAMPLE_MM**2 <= BALL_MM**2
    means = signal.fftconvolve(np.minimum(relative_zyx, HOTTEST), ball / ball.sum(), mode="same")
    return float(means[ndimage.binary_erosion(inside, ball)].min())


def _risk(measures: TrueMeasures, settings: ImplantCohortSettings) -> float:
    coldness = (D90_GY[0] - measures.d90_gy) / D90_GY[1]
    spot = (COLDEST[0] - measures.coldest) / COLDEST[1]
    return float(settings.effect * (settings.of_dose * coldness + settings.of_cold_spot * spot))


def _scale(risk: Floats, censored: Floats, settings: ImplantCohortSettings) -> float:
    """Days, so that the expected part of patients who have the event before they are censored is the wanted one."""

    def excess(log_scale: float) -> float:
        cumulative = (censored / np.exp(log_scale)) ** settings.shape * np.exp(risk)
        return float((1.0 - np.exp(-cumulative)).mean() - settings.event_part)

    return float(np.exp(optimize.brentq(excess, 0.0, 40.0)))
