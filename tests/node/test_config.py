"""The configuration: what is wrong is named with file and key, before anything starts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from node.config import NodeSettings, load_config
from node.errors import EX_CONFIG, ConfigError
from tests.peers import config_folder

REPOSITORY = Path(__file__).parents[2]
CONSOLE = "CONSOLE: {ae_title: CONSOLE, host: 127.0.0.1, port: 104"
COPY = "class: pipelines.copy_series:CopySeries\nwhen: {role: cbct}\n"
ENHANCE = "class: pipelines.enhancement:Enhancement\nwhen: {role: cbct}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return config_folder(tmp_path)


def complaint(folder: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(folder).loaded_pipelines()
    return caught.value


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("aetitle: RTNODE", "aetitle", "Extra inputs are not permitted"),
        ("ae_title: ''", "ae_title", "String should have at least 1 character"),
        ("ae_title: SEVENTEEN_LETTERS", "ae_title", "String should have at most 16 characters"),
        ("ae_title: 'BACK\\SLASH'", "ae_title", "String should match pattern"),
        ("ae_title: 'BEHIND '", "ae_title", "String should match pattern"),
        ("bind: 5", "bind", "Input should be a valid string"),
        ("port: 65536", "port", "Input should be less than or equal to 65535"),
        ("port: dicom", "port", "Input should be a valid integer"),
        ("port: -1", "port", "Input should be greater than or equal to 0"),
        ("state_dir: 5", "state_dir", "Input is not a valid path"),
        ("ledger: mysql://there", "ledger", "String should match pattern"),
        ("engine: somewhere:8786", "engine", "String should match pattern"),
        ("workers: 0", "workers", "Input should be greater than or equal to 1"),
        ("accept_unknown_peers: perhaps", "accept_unknown_peers", "Input should be a valid boolean"),
        ("accept_sop_classes: CTImageStorage", "accept_sop_classes", "Input should be a valid tuple"),
        ("accept_sop_classes: [CTImageStorage]", "accept_sop_classes.0", "String should match pattern"),
        ("settle: {grace: 1}", "settle.grace", "Extra inputs are not permitted"),
        ("settle: {grace_s: -1}", "settle.grace_s", "Input should be greater than or equal to 0"),
        ("settle: {quiet_s: 0}", "settle.quiet_s", "Input should be greater than 0"),
        ("settle: {quiet_s: .inf}", "settle.quiet_s", "Input should be a finite number"),
        ("web: {port: 8080, user: me}", "web.user", "Extra inputs are not permitted"),
        ("tls: {certificate: node.crt}", "tls.key", "Field required"),
        ("tls: {certificate: node.crt, key: node.key}", "tls", "ca has to name the authority"),
        ("retention_days: 0", "retention_days", "Input should be greater than 0"),
        ("min_free_gib: -1", "min_free_gib", "Input should be greater than or equal to 0"),
        ("max_attempts: 0", "max_attempts", "Input should be greater than or equal to 1"),
        ("delivery: {first_wait_s: 0}", "delivery.first_wait_s", "Input should be greater than 0"),
        ("[a, list]", "", "Input should be a valid dictionary"),
        ("port: [1", "", "can not be read: while parsing"),
        ("ae_title: 2020-13-45", "", "can not be read: month must be in 1..12"),
        ("ae_title: \xff", "", "can not be read: 'utf-8' codec"),
    ],
)
def test_a_wrong_setting_of_the_node_is_named(folder: Path, text: str, key: str, reason: str) -> None:
    (folder / "node.yaml").write_bytes(text.encode("latin-1"))
    error = complaint(folder)
    assert (error.path, error.key) == (folder / "node.yaml", key)
    assert error.reason.startswith(reason)


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        (f"{CONSOLE}, may: [fly]}}", "CONSOLE.may.0", "Input should be 'echo', 'store', 'query' or 'retrieve'"),
        (f"{CONSOLE}, mai: [echo]}}", "CONSOLE.mai", "Extra inputs are not permitted"),
        ("CONSOLE: {ae_title: CONSOLE, port: 104}", "CONSOLE.host", "Field required"),
        (f"{CONSOLE}, receives: CT}}", "CONSOLE.receives", "Input should be a valid frozenset"),
        (f"{CONSOLE}, commitment: often}}", "CONSOLE.commitment", "Input should be a valid boolean"),
        (f"{CONSOLE}, tls: {{certificate: a.crt}}}}", "CONSOLE.tls.ca", "Field required"),
        (f"{CONSOLE}, tls: {{ca: /nowhere/ca.crt}}}}", "CONSOLE.tls", "can not be used: [Errno 2] No such file"),
        ("- CONSOLE", "", "Input should be a valid dictionary"),
    ],
)
def test_a_wrong_peer_is_named(folder: Path, text: str, key: str, reason: str) -> None:
    (folder / "peers.yaml").write_text(text)
    error = complaint(folder)
    assert (error.path, error.key) == (folder / "peers.yaml", key)
    assert error.reason.startswith(reason)


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("", "", "Input should be a valid dictionary"),
        ("when: {role: cbct}", "class", "Field required"),
        ("class: copy\nwhen: {role: cbct}", "class", "String should match pattern"),
        ("class: pipelines.nowhere:Copy\nwhen: {role: cbct}", "class", "No module named 'pipelines.nowhere'"),
        ("class: pipelines.copy_series:Nobody\nwhen: {role: cbct}", "class", "module 'pipelines.copy_series' has no"),
        ("class: pathlib:Path\nwhen: {role: cbct}", "class", "pathlib:Path is not a pipeline"),
        ("class: pipelines.copy_series:CopySeries", "when", "Field required"),
        (COPY.replace("cbct", "moon"), "when.role", "roles.yaml has no role moon"),
        (COPY.replace("cbct", "cbct, body_part: []"), "when.body_part", "Tuple should have at least 1 item"),
        (COPY.replace("cbct", "cbct, body_part: HEAD"), "when.body_part", "Input should be a valid tuple"),
        (COPY.replace("cbct", "cbct, body_part: [HEAD, ' ']"), "when.body_part.1", "String should have at least 1"),
        (COPY.replace("cbct", "cbct, body_part: [NO]"), "when.body_part.0", "Input should be a valid string"),
        (COPY + "send_to: [MARS]", "send_to", "peers.yaml has no peer MARS"),
        (COPY + "settings: {colour: red}", "settings", "colour: Extra inputs are not permitted"),
        (ENHANCE + "settings: {weights: nowhere}", "settings.weights", "the card "),
        (COPY + "limits: {time_s: 0}", "limits.time_s", "Input should be greater than 0"),
        (COPY + "labelling: {not_for_treatment: false}", "labelling", "approved_by has to name the person"),
        (COPY + "labelling: {content_qualification: PRODUCT}", "labelling", "approved_by has to name the person"),
        (
            COPY + "stability: {limits: {edge_shift_mm: {flag_above: 1, hold_above: 2, on: 2026-11-20}}}",
            "stability.limits.edge_shift_mm.by",
            "Field required",
        ),
        (COPY + "fetch_deadline_h: -1", "fetch_deadline_h", "Input should be greater than or equal to 0"),
        (COPY + "priority: 1", "priority", "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_pipeline_is_named(folder: Path, text: str, key: str, reason: str) -> None:
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "wrong.yaml").write_text(text)
    error = complaint(folder)
    assert (error.path, error.key) == (folder / "pipelines" / "wrong.yaml", key)
    assert error.reason.startswith(reason)


@pytest.mark.parametrize(
    ("watched", "current", "reason"),
    [
        ({"shadow": True, "shadow_of": "moon"}, {}, "there is no pipeline moon"),
        ({"shadow": True, "shadow_of": "watched"}, {}, "a pipeline can not be compared with itself"),
        ({"shadow_of": "current"}, {}, "only a pipeline with shadow: true is compared with another"),
        ({"shadow": True, "shadow_of": "current"}, {"shadow": True}, "current is in shadow itself"),
        ({"shadow": True, "shadow_of": "current"}, {"enabled": False}, "current is not enabled"),
        ({"shadow": True, "shadow_of": "current"}, {"when": {"role": "dose"}}, "current starts with the role dose"),
    ],
)
def test_a_pipeline_whose_results_can_not_be_current_is_named(
    tmp_path: Path, watched: dict[str, Any], current: dict[str, Any], reason: str
) -> None:
    copy = yaml.safe_load(COPY)
    folder = config_folder(tmp_path, pipelines={"watched": {**copy, **watched}, "current": {**copy, **current}})
    error = complaint(folder)
    assert (error.path, error.key) == (folder / "pipelines" / "watched.yaml", "shadow_of")
    assert error.reason.startswith(reason)


def test_a_pipeline_in_shadow_names_the_current_one(tmp_path: Path) -> None:
    copy = yaml.safe_load(COPY)
    watched = {**copy, "shadow": True, "shadow_of": "current"}
    folder = config_folder(tmp_path, pipelines={"watched": watched, "current": copy})
    assert load_config(folder).pipelines["watched"].shadow_of == "current"


def test_a_certificate_that_is_none_is_named(folder: Path, tmp_path: Path) -> None:
    ca = tmp_path / "ca.crt"
    trustme.CA().cert_pem.write_to_path(ca)
    tls = {"certificate": str(folder / "peers.yaml"), "key": str(folder / "peers.yaml"), "ca": str(ca)}
    config_folder(tmp_path, {"tls": tls})
    error = complaint(folder)
    assert (error.path, error.key) == (folder / "node.yaml", "tls")
    assert error.reason.startswith("certificate, key or ca can not be used: [SSL]")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert str(complaint(tmp_path / "none")) == f"{tmp_path / 'none'}: there is no such configuration folder"


def test_a_pipeline_that_is_switched_off_is_not_loaded(tmp_path: Path) -> None:
    off = {"class": "pipelines.nowhere:Copy", "when": {"role": "cbct"}, "enabled": False}
    assert load_config(config_folder(tmp_path, pipelines={"off": off})).loaded_pipelines() == {}


def test_an_empty_folder_has_the_defaults_that_the_shipped_files_state(tmp_path: Path) -> None:
    assert load_config(tmp_path).node == load_config(REPOSITORY / "config").node


def test_the_shipped_configuration_loads_with_its_pipelines() -> None:
    config = load_config(REPOSITORY / "config")
    assert config.loaded_pipelines().keys() == {name for name, one in config.pipelines.items() if one.enabled}


def test_every_key_of_the_node_stands_in_the_shipped_file() -> None:
    shipped = yaml.safe_load((REPOSITORY / "config" / "node.yaml").read_text())
    assert shipped.keys() == NodeSettings.model_fields.keys()


def rtnode(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "node", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("command", ["serve", "check", "status"])
def test_a_wrong_configuration_ends_the_command_with_78(folder: Path, command: str) -> None:
    (folder / "node.yaml").write_text("prot: 11112")
    ended = rtnode(command, "--config", str(folder))
    assert ended.returncode == EX_CONFIG
    assert ended.stderr == f"rtnode: {folder / 'node.yaml'}: prot: Extra inputs are not permitted\n"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"bind": "192.0.2.1"}, "the node can not listen (bind and port in node.yaml): "),
        ({"state_dir": "/proc/state"}, "state_dir of node.yaml can not be used: "),
        ({"ledger": "postgresql+psycopg://rtnode:SECRET@127.0.0.1:1/rtnode"}, "the ledger can not be opened: "),
    ],
)
def test_what_the_machine_does_not_give_is_said_in_one_line(
    scheduler: str, tmp_path: Path, settings: dict[str, Any], complaint: str
) -> None:
    ended = rtnode("serve", "--config", str(config_folder(tmp_path, {"engine": scheduler, **settings})))
    assert (ended.returncode, f"\nrtnode: {complaint}" in f"\n{ended.stderr}") == (1, True)
    assert "Traceback" not in ended.stderr and "SECRET" not in ended.stderr


def test_check_says_what_is_well_and_fails_for_a_peer_that_does_not_answer(folder: Path) -> None:
    ended = rtnode("check", "--config", str(folder), "--json")
    checks: dict[str, Any] = {one["what"]: one["ok"] for one in json.loads(ended.stdout)}
    assert ended.returncode == 1
    assert checks["configuration and weights"] is True
    assert [ok for what, ok in checks.items() if "CONSOLE" in what] == [False]


def test_a_limit_of_the_site_reaches_the_pipeline_and_its_digest(folder: Path) -> None:
    file = folder / "pipelines" / "own.yaml"
    file.parent.mkdir(exist_ok=True)
    digests = []
    for by in ("A. Physicist", "B. Physicist"):
        own = f"edge_shift_mm: {{flag_above: 1, hold_above: 2, by: {by}, on: 2026-11-20}}"
        file.write_text(f"{COPY}stability: {{limits: {{{own}}}}}\n", encoding="utf-8")
        pipeline = load_config(folder).pipeline("own")
        assert pipeline.stability.limits["edge_shift_mm"].by == by
        digests.append(pipeline.settings_sha256())
    assert len(set(digests)) == 2


def test_a_pipeline_gets_the_names_of_the_site_where_it_asks_for_them(folder: Path) -> None:
    (folder / "structure_names.yaml").write_text("Tumour: GTVp\n")
    (folder / "pipelines").mkdir(exist_ok=True)
    (folder / "pipelines" / "asks.yaml").write_text(f"{COPY}settings: {{structure_names: site}}\n")
    (folder / "pipelines" / "states.yaml").write_text(f"{COPY}settings: {{structure_names: {{gtv 1: GTVp}}}}\n")
    pipelines = load_config(folder).pipelines
    assert pipelines["asks"].settings == {"structure_names": {"tumour": "GTVp"}}
    assert pipelines["states"].settings == {"structure_names": {"gtv 1": "GTVp"}}


def test_a_name_of_the_site_that_is_none_of_tg263_is_named(folder: Path) -> None:
    (folder / "structure_names.yaml").write_text("Tumour: Tumour\n")
    (folder / "pipelines").mkdir(exist_ok=True)
    (folder / "pipelines" / "asks.yaml").write_text(f"{COPY}settings: {{structure_names: site}}\n")
    error = complaint(folder)
    assert (error.path.name, error.key) == ("structure_names.yaml", "Tumour")
