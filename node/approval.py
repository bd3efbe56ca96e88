"""The release of a held result as the configuration has it: where it goes, and whether two persons have to agree."""

from node.config import Config
from node.errors import NodeError
from node.ledger import Ledger


def release(config: Config, ledger: Ledger, result_id: int, by: str, why: str) -> bool:
    """Let a held result go to the peers of its pipeline.

    Returns
    -------
    False when two persons have to release it and this was the first: it stays held.

    Raises
    ------
    NodeError
        If it can not be released, or the configuration does not know its pipeline.
    """
    pipeline = ledger.decisions.pipeline_of(result_id)
    if pipeline not in config.pipelines:
        raise NodeError(f"the configuration has no pipeline {pipeline}")
    four_eyes = config.pipelines[pipeline].four_eyes
    return ledger.decisions.release(
        result_id, by, why, lambda modality: config.receivers(pipeline, modality), four_eyes
    )
