"""The configuration: YAML files of one folder, read once, by this module alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from models.control_chart import LEAST_BASELINE, RULES, Baseline
from node import site_names
from node.connections import PeerTls, Port, ServerTls, Settings, Syslog
from node.errors import ConfigError
from node.roles import RoleRule
from pipelines.base import Labelling, Pipeline
from pipelines.site_limits import SiteStability

SEARCHED = (Path("config"), Path("/etc/rtnode"))
"""Folders looked into, in this order, when none is named."""
EMBEDDED = tuple(Path(__file__).parents[level] / name for level, name in ((0, "default_config"), (1, "config")))
"""Where the examples lie: in an installed package, and in a checkout."""
T = TypeVar("T")
AeTitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[\x20-\x5B\x5D-\x7E]*[\x21-\x5B\x5D-\x7E]$")]
StructureName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_~!+-]{1,16}$")]
"""As TG-263 forms a name; without its ^, behind which anything may stand."""
BodyPart = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""A word of Body Part Examined; any, since sites write more than the standard's list (PS3.16 Annex L)."""
Uid = Annotated[str, Field(max_length=64, pattern=r"^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+$")]
"""A UID as a site may have to write one (PS3.5 9.1)."""


class Settle(Settings):
    """When a series counts as complete (ARCHITECTURE.md, settling)."""

    grace_s: float = Field(default=0.5, ge=0)
    quiet_s: float = Field(default=60.0, gt=0)


class Web(Settings):
    """Where the status page listens; port 0 takes any free one. `decisions`: it lets persons release and reject."""

    bind: str = "127.0.0.1"
    port: Port = 8080
    decisions: bool = False


class Audit(Settings):
    """What leaves the audit trail as DICOM audit messages (PS3.15 A.5)."""

    syslog: Syslog | None = None
    patient_ids: bool = False


class DeliveryWaits(Settings):
    """How long a delivery waits before the next attempt, and when it, or the peer's commitment, is given up."""

    first_wait_s: float = Field(default=10.0, gt=0)
    max_wait_s: float = Field(default=1800.0, gt=0)
    give_up_after_h: float = Field(default=72.0, gt=0)
    commit_within_h: float = Field(default=72.0, gt=0)


class NodeSettings(Settings):
    """node.yaml."""

    ae_title: AeTitle = "RTNODE"
    bind: str = "127.0.0.1"
    port: Port = 11112
    state_dir: Path = Path("state")
    ledger: str = Field(default="sqlite", pattern=r"^(sqlite|postgresql\+psycopg://.+)$")
    engine: str = Field(default="local", pattern=r"^(local|(tcp|tls)://.+:\d+)$")
    workers: int = Field(default=1, ge=1)
    accept_unknown_peers: bool = False
    accept_sop_classes: tuple[Uid, ...] = ()
    settle: Settle = Settle()
    web: Web | None = Web()
    tls: ServerTls | None = None
    retention_days: float = Field(default=30.0, gt=0)
    min_free_gib: float = Field(default=5.0, ge=0)
    max_attempts: int = Field(default=3, ge=1)
    delivery: DeliveryWaits = DeliveryWaits()
    audit: Audit = Audit()

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return f"sqlite:///{self.state_dir / 'ledger.sqlite3'}" if self.ledger == "sqlite" else self.ledger


class Peer(Settings):
    """An Application Entity that the node knows (peers.yaml)."""

    ae_title: AeTitle
    host: str
    port: Port
    may: frozenset[Literal["echo", "store", "query", "retrieve"]] = frozenset({"echo"})
    receives: frozenset[str] | None = None
    commitment: bool = False
    tls: PeerTls | None = None

    def takes(self, modality: str) -> bool:
        """Whether results of this modality are sent to the peer."""
        return self.receives is None or modality in self.receives


class When(Settings):
    """Which settled series starts the pipeline."""

    role: str
    body_part: Annotated[tuple[BodyPart, ...], Field(min_length=1)] | None = None
    """Words of Body Part Examined (0018,0015); None takes any."""
    incomplete: bool = False


class Limits(Settings):
    """What a job may use before it is stopped."""

    time_s: float = Field(default=600.0, gt=0)
    memory_gib: float = Field(default=8.0, gt=0)
    resources: dict[str, float] = Field(default_factory=dict)
    """Of the workers, such as `GPU: 1`; as announced to Dask by `--resources`."""


class SiteLabelling(Settings):
    """How results are marked; leaving the mark away takes a named person."""

    content_qualification: Literal["RESEARCH", "SERVICE", "PRODUCT"] = "RESEARCH"
    not_for_treatment: bool = True
    approved_by: str | None = None

    @model_validator(mode="after")
    def _needs_a_person(self) -> "SiteLabelling":
        if (not self.not_for_treatment or self.content_qualification != "RESEARCH") and not self.approved_by:
            raise ValueError("approved_by has to name the person who answers for results without the research marks")
        return self

    def labelling(self) -> Labelling:
        """As the pipelines know it."""
        return Labelling(self.content_qualification, self.not_for_treatment)


class TrendSettings(Settings):
    """The control charts of the findings of one pipeline; there is one for each finding and device."""

    first: int = Field(default=20, ge=LEAST_BASELINE)
    """So many results make the baseline of a chart that has none stated."""
    baselines: dict[str, Baseline] = Field(default_factory=dict)
    """Mean and sigma by the name of a finding, as measured at commissioning."""
    alarm_rules: frozenset[Annotated[int, Field(ge=1, le=len(RULES))]] = frozenset({1, 2, 3, 5})
    """Nelson's rules that raise an alarm; the others are only shown.

    In 60 000 values by chance alone each of these four begins to be broken at 0.2 to 0.3 % of the values, together at
    0.9 %; all eight would make it 1.5 %, on each of some ten charts.
    """


class PipelineSettings(Settings):
    """One file of pipelines/."""

    class_path: str = Field(alias="class", pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    settings: dict[str, Any] = Field(default_factory=dict)
    when: When
    send_to: tuple[str, ...] = ()
    limits: Limits = Limits()
    labelling: SiteLabelling = SiteLabelling()
    stability: SiteStability = SiteStability()
    """Limits of findings that the site sets in place of the model card's."""
    fetch_deadline_h: float = Field(default=24.0, ge=0)
    four_eyes: bool = False
    """A held result is sent only when two different persons have released it."""
    alarm_h: float = Field(default=24.0, gt=0)
    """A result that is held for longer raises an alarm."""
    shadow: bool = False
    """Its results are judged and kept, and go nowhere."""
    shadow_of: str | None = None
    """The pipeline whose results are current: those in shadow are compared with them, on the same series."""
    quality_report: bool = True
    """A quality report (SR) and a page are made beside each result; peers that `receives` no SR are not sent any."""
    trend: TrendSettings = TrendSettings()
    enabled: bool = True

    def values(self) -> dict[str, Any]:
        """For the fields of the class: the settings, and the limits of the site where it has set some."""
        stability = {"stability": self.stability.model_dump(mode="json")} if self.stability.limits else {}
        return {**self.settings, **stability}

    def fault_of_shadow(self, name: str, current: "PipelineSettings | None") -> str | None:
        """Why the results of this pipeline, `name`, can not be compared with those of `shadow_of`; None if they can."""
        if self.shadow_of is None:
            return None
        if not self.shadow:
            return "only a pipeline with shadow: true is compared with another"
        if self.shadow_of == name:
            return "a pipeline can not be compared with itself"
        if current is None:
            return f"there is no pipeline {self.shadow_of}"
        if current.shadow:
            return f"{self.shadow_of} is in shadow itself, so its results are not the current ones"
        if self.enabled and not current.enabled:
            return f"{self.shadow_of} is not enabled, so there is no result to compare with"
        if current.when.role != self.when.role:
            return f"{self.shadow_of} starts with the role {current.when.role}, so never with the same series"
        return None


class CollectionRule(Settings):
    """One data set of collections.yaml."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    roles: frozenset[str] = Field(min_length=1)
    folder: Path
    key_file: Path
    opt_out_file: Path | None = None
    structure_names: Mapping[str, StructureName] = {}
    """TG-263 names by the ROI names of the site."""


@dataclass(frozen=True)
class Config:
    """Everything that the node is told."""

    folder: Path
    node: NodeSettings
    peers: Mapping[str, Peer]
    roles: tuple[RoleRule, ...]
    pipelines: Mapping[str, PipelineSettings]
    collections: tuple[CollectionRule, ...] = ()

    def pipeline(self, name: str, verify: bool = True) -> Pipeline:
        """The pipeline that the file of this name describes; without `verify` its weights need not exist yet.

        Raises
        ------
        ConfigError
            If there is no such file, or class, settings or weights can not be used.
        """
        # Brings torch along, which most commands do without.
        from pipelines.execution import PipelineConfigError, load_pipeline

        path = self.folder / "pipelines" / f"{name}.yaml"
        if name not in self.pipelines:
            raise ConfigError(path, "", f"there is no pipeline {name}; known are {', '.join(sorted(self.pipelines))}")
        settings = self.pipelines[name]
        try:
            return load_pipeline(name, settings.class_path, settings.values(), verify=verify)
        except PipelineConfigError as error:
            raise ConfigError(path, error.key, error.reason) from error

    def receivers(self, pipeline: str, modality: str) -> list[str]:
        """Names of the peers that the pipeline's results of this modality go to."""
        return [name for name in self.pipelines[pipeline].send_to if self.peers[name].takes(modality)]

    def loaded_pipelines(self) -> dict[str, Pipeline]:
        """Every enabled pipeline, imported and with its weights verified; raises ConfigError as `pipeline` does."""
        return {name: self.pipeline(name) for name, settings in self.pipelines.items() if settings.enabled}


def load_config(folder: Path | None = None) -> Config:
    """Read and validate all files of the configuration folder.

    Raises
    ------
    ConfigError
        For a missing folder or file, a wrong key, a wrong type or a reference to nothing; names file and key.
    """
    folder = folder or _first(SEARCHED)
    if not folder.is_dir():
        raise ConfigError(folder, "", "there is no such configuration folder")
    node = _validated(folder / "node.yaml", TypeAdapter(NodeSettings), {})
    peers = _validated(folder / "peers.yaml", TypeAdapter(dict[str, Peer]), {})
    roles = _validated(folder / "roles.yaml", TypeAdapter(tuple[RoleRule, ...]), [])
    files = sorted((folder / "pipelines").glob("*.yaml"))
    pipelines = {path.stem: _validated(path, TypeAdapter(PipelineSettings), None) for path in files}
    collections = _validated(folder / "collections.yaml", TypeAdapter(tuple[CollectionRule, ...]), [])
    config = Config(folder, node, peers, roles, _with_site_names(folder, pipelines), collections)
    _check_tls(config)
    _check_references(config)
    return config


def embedded_config(folder: Path | None = None) -> Config:
    """The configuration of the folder, else of the usual places, else the examples that come with the program."""
    return load_config(folder or _first((*SEARCHED, *EMBEDDED)))


def site_structure_names(folder: Path | None) -> dict[str, str]:
    """TG-263 names by the site's own names in lower case; none where the configuration folder has no such file.

    Raises
    ------
    ConfigError
        If the folder that was named is absent, or the file can not be used.
    """
    if folder and not folder.is_dir():
        raise ConfigError(folder, "", "there is no such configuration folder")
    path = (folder or _first(SEARCHED)) / site_names.FILE
    return site_names.checked_names(_document(path, {}), path)


def _with_site_names(folder: Path, pipelines: Mapping[str, PipelineSettings]) -> dict[str, PipelineSettings]:
    asking = [name for name, one in pipelines.items() if site_names.asks_for_names(one.settings)]
    named = {site_names.SETTING: site_structure_names(folder)} if asking else {}
    changed = {name: {"settings": {**pipelines[name].settings, **named}} for name in asking}
    return {name: one.model_copy(update=changed.get(name)) for name, one in pipelines.items()}


def _first(folders: tuple[Path, ...]) -> Path:
    return next((path for path in folders if path.is_dir()), folders[0])


def _validated(path: Path, kind: TypeAdapter[T], default: object) -> T:
    document = _document(path, default)
    try:
        return kind.validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(path, key, first["msg"].removeprefix("Value error, ")) from error


def _document(path: Path, default: object) -> object:
    if not path.is_file() and default is not None:
        return default
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: no UTF-8, or a date that there is not
        raise ConfigError(path, "", f"can not be read: {error}") from error
    return default if document is None else document


def _check_tls(config: Config) -> None:
    try:
        if config.node.tls:
            config.node.tls.context()
    except OSError as error:
        raise ConfigError(
            config.folder / "node.yaml", "tls", f"certificate, key or ca can not be used: {error}"
        ) from error
    syslog = config.node.audit.syslog
    try:
        if syslog and syslog.transport == "tls":
            syslog.context()
    except OSError as error:
        raise ConfigError(config.folder / "node.yaml", "audit.syslog", f"can not be used: {error}") from error
    for name, peer in config.peers.items():
        try:
            if peer.tls:
                peer.tls.context()
        except OSError as error:
            raise ConfigError(config.folder / "peers.yaml", f"{name}.tls", f"can not be used: {error}") from error


def _check_references(config: Config) -> None:
    roles = {rule.role for rule in config.roles}
    for number, collection in enumerate(config.collections):
        if not collection.roles <= roles:
            unknown = ", ".join(sorted(collection.roles - roles))
            raise ConfigError(
                config.folder / "collections.yaml", f"{number}.roles", f"roles.yaml has no role {unknown}"
            )
    for name, pipeline in config.pipelines.items():
        path = config.folder / "pipelines" / f"{name}.yaml"
        if pipeline.when.role not in roles:
            raise ConfigError(path, "when.role", f"roles.yaml has no role {pipeline.when.role}")
        fault = pipeline.fault_of_shadow(name, config.pipelines.get(pipeline.shadow_of or ""))
        if fault is not None:
            raise ConfigError(path, "shadow_of", fault)
        for peer in pipeline.send_to:
            if peer not in config.peers:
                raise ConfigError(path, "send_to", f"peers.yaml has no peer {peer}")
