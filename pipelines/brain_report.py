"""What the report of a head CT says: regions with their HU, ratios and features, the prognosis, and the findings."""

from collections.abc import Iterator

from pydicom import Dataset

from models.brain_atlas import REGIONS
from models.brain_features import BASAL_GANGLIA, WHOLE_BRAIN
from models.brain_measures import UNITS, WHAT
from models.feature_settings import HU
from models.grey_white_ratio import INSET_MM, WINDOW_HU
from models.prognosis import Prediction, PrognosisModel
from models.radiomics import Feature
from pipelines.base import Inputs
from pipelines.brain_measurement import MeasuredBrain
from pipelines.dicom.encapsulated_pdf import prognosis_documents
from pipelines.dicom.report_content import Measured, MeasuredRegion, PrognosisContent
from pipelines.provenance import Provenance
from pipelines.site_limits import SiteStability
from pipelines.stability import Finding

_TITLE = "Prognosis from head CT"
_MEDIAN = f"median of the voxels from {WINDOW_HU[0]:g} to {WINDOW_HU[1]:g} HU, {INSET_MM:g} mm inside the region"
_RATIOS = {
    "gwr_basal_ganglia": "(caudate + putamen) / (posterior limb of internal capsule + corpus callosum)",
    "gwr_putamen": "putamen / posterior limb of internal capsule",
    "gwr_cerebrum": "medial cortex / centrum semiovale",
    "gwr_average": "mean of basal ganglia and cerebrum",
}
"""What each ratio is of."""


def brain_findings(
    brain: MeasuredBrain, model: PrognosisModel, prediction: Prediction, site: SiteStability
) -> tuple[Finding, ...]:
    """What was measured about the result, against the limits of the training patients or those of the site."""
    measures = {**brain.measures, "feature_distance": prediction.distance}
    return tuple(
        site.judged(name, value, UNITS[name], model.limits.get(name), WHAT[name]) for name, value in measures.items()
    )


def brain_report(
    brain: MeasuredBrain,
    used: tuple[PrognosisModel, str, str],
    prediction: Prediction,
    findings: tuple[Finding, ...],
    origin: Provenance,
    inputs: Inputs,
) -> tuple[Dataset, Dataset]:
    """The structured report and the page; `used` is the model with its name and SHA-256."""
    model, weights_name, weights_sha256 = used
    content = PrognosisContent(
        title=_TITLE,
        regions=tuple(_regions(brain)),
        model=model,
        weights_name=weights_name,
        weights_sha256=weights_sha256,
        prediction=prediction,
        remarks=tuple(_remarks(brain)),
        findings=findings,
    )
    return prognosis_documents(content, brain.series.headers, origin, inputs.predecessors)


def _remarks(brain: MeasuredBrain) -> Iterator[str]:
    ratios = brain.features.ratios
    yield (
        f"Baseline without a model: grey-white ratio {ratios['gwr_average']:.2f} on average, "
        f"{ratios['gwr_basal_ganglia']:.2f} of the basal ganglia, {ratios['gwr_cerebrum']:.2f} of the cerebrum."
    )
    yield "Regions come from an atlas of a made-up mean head and were not drawn by a person."


def _regions(brain: MeasuredBrain) -> Iterator[MeasuredRegion]:
    found = brain.features
    for name in dict.fromkeys((WHOLE_BRAIN, BASAL_GANGLIA, *REGIONS)):
        values = list(_values(brain, name))
        values += [_of_feature(one) for one in found.radiomics.get(name, ())]
        yield MeasuredRegion(name.replace("_", " "), "", brain.series.headers, None, tuple(values))


def _values(brain: MeasuredBrain, region: str) -> Iterator[Measured]:
    found = brain.features
    if region in found.medians_hu:
        yield Measured("median_hu", found.medians_hu[region], HU, detail=_MEDIAN)
    if region != WHOLE_BRAIN:
        return
    yield Measured("volume", brain.volume_ml, "mL", detail="inside of the skull above the foramen magnum")
    for name, ratio in found.ratios.items():
        yield Measured(name, ratio, "1", detail=_RATIOS[name])
    gradient = "histogram from 0 to 80 HU, bins of 0.5 HU, Gaussian of SD 2 HU, above 12 HU"
    yield Measured("max_gradient_hu", found.gradient.grey_level_hu, HU, detail=gradient)
    yield Measured("max_gradient", found.gradient.gradient, "1", detail=f"part of the voxels per HU and HU; {gradient}")
    yield Measured("fluid_share", found.fluid_share, "1", detail="part of the inside of the skull from 0 to 15 HU")


def _of_feature(feature: Feature) -> Measured:
    parts = (feature.name, feature.aggregation, f"settings {feature.settings_sha256[:12]}")
    return Measured(feature.tag, feature.value, feature.unit, feature.ibsi_code, "; ".join(filter(None, parts)))
