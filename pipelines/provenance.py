"""Where a result comes from, and the UIDs that follow from it: the same work gives the same UIDs, other work others.

A job that runs twice therefore makes the same instances, and sending them twice is harmless; another model, setting,
input or release of the program never meets the UID of an earlier result.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from pydicom import Dataset
from pydicom.uid import UID

from pipelines.base import InputRejected, Inputs, Labelling, Pipeline
from pipelines.dicom.elements import text
from pipelines.dicom.reading import read_instance

PRODUCT = "rtnode"


@cache
def product_version() -> str:
    """Version of the installed program; `0+unknown` in a source tree that was never installed."""
    try:
        return version(PRODUCT)
    except PackageNotFoundError:
        return "0+unknown"


def hashed_uid(identity: object) -> UID:
    """A UID below 2.25 whose number is the first half of a SHA-256; `identity` is any JSON value.

    References
    ----------
    PS3.5 B.2 UUID derived UID: any 128-bit number, written in decimal.
    """
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


@dataclass(frozen=True)
class Provenance:
    """Everything that a result depends on."""

    pipeline_name: str
    settings_sha256: str
    weights_sha256: tuple[str, ...]
    labelling: Labelling
    sop_instance_uids: tuple[str, ...]
    """Of all inputs, sorted."""
    version: str
    predecessors: tuple[str, ...] = ()
    """SOP Instance UIDs of the earlier reports that the result refers to."""

    def uid(self, *key: str) -> UID:
        """The UID of one thing that this work makes; `key` tells it from the others, as `("series",)`."""
        marks = (self.labelling.content_qualification, self.labelling.not_for_treatment)
        continued = [self.predecessors] if self.predecessors else []
        return hashed_uid([self.settings_sha256, self.version, marks, self.sop_instance_uids, key, *continued])

    def description(self) -> str:
        """What processed the inputs, for the Contributing Equipment; at most 1024 characters (VR ST)."""
        weights = ", ".join(self.weights_sha256) or "none"
        return f"Pipeline {self.pipeline_name}; settings SHA-256 {self.settings_sha256}; weights SHA-256 {weights}"[
            :1024
        ]


def provenance(pipeline: Pipeline, inputs: Inputs) -> Provenance:
    """The provenance of what `pipeline` makes of `inputs`.

    Raises
    ------
    InputRejected
        If an input file can not be read.
    """
    return Provenance(
        pipeline_name=pipeline.name,
        settings_sha256=pipeline.settings_sha256(),
        weights_sha256=pipeline.weights_sha256(),
        labelling=inputs.labelling,
        sop_instance_uids=tuple(sorted(_sop_instance_uids(inputs))),
        version=product_version(),
        predecessors=tuple(one.sop_instance_uid for one in inputs.predecessors),
    )


def _sop_instance_uids(inputs: Inputs) -> Iterator[str]:
    linked = (series for group in inputs.linked.values() for series in group)
    for series in (inputs.trigger, *linked):
        for path in series.paths:
            yield _sop_instance_uid(read_instance(path, ("SOPClassUID", "SOPInstanceUID")))


def _sop_instance_uid(dataset: Dataset) -> str:
    uid = text(dataset, "SOPInstanceUID")
    if not uid:
        raise InputRejected("An instance has no SOP Instance UID")
    return uid
