"""Fetches what a waiting job lacks from the peers that may be asked: C-FIND, then C-MOVE to this node.

What is moved arrives at the node's own port like everything else; nothing here touches the ledger's jobs.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from pydicom import Dataset, uid
from pydicom.uid import UID

from node.config import Peer
from node.errors import DeliveryError, PeerRefused
from node.roles import Exact, RoleRule
from node.scu import Scu
from node.sop_classes import LABEL_MAP_SEGMENTATION_STORAGE

MODALITIES = {
    uid.CTImageStorage: "CT",
    uid.EnhancedCTImageStorage: "CT",
    uid.MRImageStorage: "MR",
    uid.EnhancedMRImageStorage: "MR",
    uid.PositronEmissionTomographyImageStorage: "PT",
    uid.RTStructureSetStorage: "RTSTRUCT",
    uid.RTPlanStorage: "RTPLAN",
    uid.RTIonPlanStorage: "RTPLAN",
    uid.RTDoseStorage: "RTDOSE",
    uid.SegmentationStorage: "SEG",
    LABEL_MAP_SEGMENTATION_STORAGE: "SEG",
    uid.SpatialRegistrationStorage: "REG",
    uid.DeformableSpatialRegistrationStorage: "REG",
}
"""What an archive is asked for; a C-FIND at series level knows modalities, not SOP classes (PS3.4 C.6.2.1)."""

log = logging.getLogger(__name__)


class Retriever:
    """The node as the requestor of priors."""

    def __init__(
        self,
        peers: Mapping[str, Peer],
        rules: Sequence[RoleRule],
        scu: Scu,
        on_query: Callable[[str, Sequence[str]], None] = lambda name, modalities: None,
    ) -> None:
        self._peers = {name: peer for name, peer in peers.items() if {"query", "retrieve"} <= peer.may}
        self._rules = rules
        self._scu = scu
        self._on_query = on_query
        """Told the peer's name and the modalities, before each query."""
        self._asked: set[str] = set()

    def is_prior(self, series_instance_uid: str) -> bool:
        """Whether the series came because it was asked for: it completes a job, but starts none of its own."""
        return series_instance_uid in self._asked

    @property
    def has_peers(self) -> bool:
        """Whether anyone may be asked."""
        return bool(self._peers)

    def fetch(self, patient_id: str, roles: Iterable[str], held: frozenset[str]) -> int:
        """Have every series of the patient moved here that could have one of the roles and is not held yet.

        Returns how many series were asked for. A peer that does not answer is asked again next time.
        """
        modalities = sorted({modality for role in roles for modality in self._modalities(role)})
        asked = 0
        for name, peer in self._peers.items():
            self._on_query(name, modalities)
            try:
                asked += self._fetch_from(peer, patient_id, modalities, held)
            except (DeliveryError, PeerRefused) as error:
                log.warning("priors not fetched", extra={"peer": name, "reason": str(error)})
        return asked

    def _fetch_from(self, peer: Peer, patient_id: str, modalities: Sequence[str], held: frozenset[str]) -> int:
        asked = 0
        for study in self._scu.find(peer, _query("STUDY", PatientID=patient_id, StudyInstanceUID="")):
            for modality in modalities:
                query = _query(
                    "SERIES", StudyInstanceUID=study.StudyInstanceUID, SeriesInstanceUID="", Modality=modality
                )
                for series in self._scu.find(peer, query):
                    if series.SeriesInstanceUID not in held:
                        self._move(peer, study, series)
                        asked += 1
        return asked

    def _move(self, peer: Peer, study: Dataset, series: Dataset) -> None:
        self._asked.add(str(series.SeriesInstanceUID))
        self._scu.move(
            peer,
            _query("SERIES", StudyInstanceUID=study.StudyInstanceUID, SeriesInstanceUID=series.SeriesInstanceUID),
        )
        log.info("prior asked for", extra={"series_instance_uid": str(series.SeriesInstanceUID)})

    def _modalities(self, role: str) -> set[str]:
        """The modalities that the rules of a role ask for, by name or by SOP class."""
        rules = [rule for rule in self._rules if rule.role == role]
        modalities = {value for rule in rules for value in _equals(rule, "Modality")}
        sop_classes = {value for rule in rules for value in _equals(rule, "SOPClassUID")}
        return modalities | {MODALITIES[UID(one)] for one in sop_classes if one in MODALITIES}


def _equals(rule: RoleRule, keyword: str) -> tuple[str, ...]:
    condition = rule.all_of.get(keyword)
    return condition.equals if isinstance(condition, Exact) else ()


def _query(level: str, **elements: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in elements.items():
        setattr(query, keyword, value)
    return query
