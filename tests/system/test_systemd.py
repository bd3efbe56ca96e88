"""The units of systemd/: they load, are confined, name commands and options that exist; and the word to systemd."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

import pytest

from node.engine import _DASK_SETTINGS, WORKER_MEMORY
from node.notify import notify, watchdog_interval_s

UNITS = Path(__file__).parents[2] / "systemd"
NAMES = sorted(path.name for path in UNITS.iterdir())
SERVICES = [name for name in NAMES if name.endswith(".service")]
INSTALLED_IN = "/opt/rtnode/.venv/bin"
ENVIRONMENT = Path(sys.executable).parent
EXPOSURE_LIMIT = 2.5
NOTIFY_TIMEOUT_S = 5.0


def values(name: str, key: str) -> list[str]:
    """All values of a key; a unit may repeat one."""
    lines = (UNITS / name).read_text(encoding="utf-8").splitlines()
    return [line.removeprefix(f"{key}=") for line in lines if line.startswith(f"{key}=")]


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    assert program is not None, "systemd-analyze is absent: install systemd"
    # Offline analysis asks no running systemd, and shows the same on every terminal.
    plain = {
        **os.environ,
        "SYSTEMD_COLORS": "0",
        "SYSTEMD_EMOJI": "0",
        "SYSTEMD_LOG_LEVEL": "info",
        "LC_ALL": "C.UTF-8",
    }
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60, env=plain)


@pytest.fixture
def loadable(tmp_path: Path) -> Path:
    """The units, with programs that exist on this machine too."""
    for name in NAMES:
        text = (UNITS / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(re.sub(rf"{INSTALLED_IN}/\w+", "/bin/true", text), encoding="utf-8")
    return tmp_path


def test_every_unit_loads_without_a_complaint(loadable: Path) -> None:
    found = analyze("verify", "--man=no", *(str(loadable / name) for name in NAMES))
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_a_mistake_in_a_unit_would_be_found(loadable: Path) -> None:
    unit = loadable / "rtnode.service"
    unit.write_text(unit.read_text(encoding="utf-8").replace("WatchdogSec=", "WatchdogSecs="), encoding="utf-8")
    assert "WatchdogSecs" in analyze("verify", "--man=no", str(unit)).stderr


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(loadable: Path, name: str) -> None:
    threshold = f"--threshold={EXPOSURE_LIMIT * 10:.0f}"
    found = analyze("security", "--offline=true", threshold, str(loadable / name))
    overall = re.search(r"Overall exposure level for \S+: ([\d.]+)", found.stdout)
    assert overall is not None, found.stdout + found.stderr
    assert float(overall[1]) <= EXPOSURE_LIMIT
    assert found.returncode == 0


def test_the_node_keeps_its_promises_to_systemd() -> None:
    expected = {
        "Type": "notify",
        "NotifyAccess": "main",
        "ExecStart": f"{INSTALLED_IN}/rtnode serve --config /etc/rtnode",
        "Restart": "on-failure",
        "KillMode": "mixed",
        "OOMPolicy": "continue",
        "User": "rtnode",
        "StateDirectory": "rtnode",
        "WorkingDirectory": "/var/lib/rtnode",
    }
    assert {key: values("rtnode.service", key) for key in expected} == {key: [one] for key, one in expected.items()}
    assert float(values("rtnode.service", "WatchdogSec")[0]) > 0


def test_a_wrong_configuration_ends_with_the_status_that_is_not_restarted(tmp_path: Path) -> None:
    _, *arguments = shlex.split(values("rtnode.service", "ExecStart")[0].replace("/etc/rtnode", str(tmp_path / "none")))
    run = subprocess.run(
        [sys.executable, "-m", "node", *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert [str(run.returncode)] == values("rtnode.service", "RestartPreventExitStatus"), run.stderr


@pytest.mark.parametrize("name", ["rtnode.service", "rtnode-worker@.service"])
def test_what_runs_convolutions_may_compile_them(name: str) -> None:
    assert values(name, "MemoryDenyWriteExecute") == []


# The cluster: the very commands of the units, on this machine.


def command(name: str, environment: Mapping[str, str], **replaced: str) -> list[str]:
    """ExecStart with its variables filled in as systemd does; `replaced` are values of options."""
    (line,) = values(name, "ExecStart")
    line = re.sub(r"\$\{(\w+)\}", lambda variable: shlex.quote(environment[variable[1]]), line)
    line = line.replace(INSTALLED_IN, str(ENVIRONMENT)).replace("%H-%i", "test-1")
    words = shlex.split(line)
    for option, value in replaced.items():
        words[words.index(f"--{option}") + 1] = value
    return words


def unit_environment(name: str) -> dict[str, str]:
    pairs = (pair for line in values(name, "Environment") for pair in shlex.split(line))
    return dict(pair.split("=", 1) for pair in pairs)


@contextmanager
def started(words: list[str], environment: Mapping[str, str]) -> Iterator[IO[str]]:
    """A running command; its output is read line by line."""
    # A cluster that this process had before leaves its settings in the environment, for children of its own.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**clean, **environment}
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.terminate()
        process.communicate(timeout=30)


def said(output: IO[str], pattern: str) -> str:
    """The first group of the first line that fits; fails with all that was said when the command ends before."""
    heard = []
    for line in output:
        heard.append(line)
        found = re.search(pattern, line)
        if found:
            return found[1]
    raise AssertionError("".join(heard))


ASK = """
import json, sys, dask
from distributed import Client
keys = json.loads(sys.argv[2])
def config():
    return {key: dask.config.get(key) for key in keys}
with Client(sys.argv[1], timeout=30) as client:
    client.wait_for_workers(1, timeout=60)
    (worker,) = client.run(config).values()
    (about,) = client.scheduler_info()["workers"].values()
    known = {key: about[key] for key in ("name", "nthreads", "resources")}
    print(json.dumps([client.run_on_scheduler(config), worker, known]))
"""


def settings_except(part: str) -> dict[str, object]:
    """What node/engine.py asks of Dask, without the keys of the other side."""
    return {key: value for key, value in _DASK_SETTINGS.items() if part not in key}


def test_scheduler_and_worker_start_with_their_options_and_settings(tmp_path: Path) -> None:
    scheduler, worker = "rtnode-scheduler.service", "rtnode-worker@.service"
    scheduler_environment, worker_environment = unit_environment(scheduler), unit_environment(worker)
    with ExitStack() as running:
        words = command(scheduler, scheduler_environment, port="0")
        output = running.enter_context(started(words, scheduler_environment))
        worker_environment["RTNODE_SCHEDULER"] = said(output, r"Scheduler at: +(tcp://127\.0\.0\.1:\d+)")
        words = command(
            worker, {**worker_environment, "RTNODE_RESOURCES": "GPU=1"}, **{"local-directory": str(tmp_path)}
        )
        running.enter_context(started(words, worker_environment))
        question = [sys.executable, "-c", ASK, worker_environment["RTNODE_SCHEDULER"], json.dumps(list(_DASK_SETTINGS))]
        answer = subprocess.run(question, capture_output=True, text=True, check=False, timeout=120)
    assert answer.returncode == 0, answer.stderr
    scheduler_config, worker_config, known = json.loads(answer.stdout)
    assert scheduler_config == {**scheduler_config, **settings_except(".worker.")}
    assert worker_config == {**worker_config, **settings_except(".scheduler.")}
    assert known == {"name": "test-1", "nthreads": 1, "resources": {"GPU": 1.0}}


def test_a_worker_without_resources_and_memory_limit_is_understood() -> None:
    environment = {**unit_environment("rtnode-worker@.service"), "RTNODE_SCHEDULER": "tcp://127.0.0.1:1"}
    words = command("rtnode-worker@.service", environment)
    assert {"--resources=", "--memory-limit=0"} <= set(words)
    run = subprocess.run([*words, "--version"], capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr


# The word to systemd (sd_notify(3)).


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(NOTIFY_TIMEOUT_S)
        yield systemd


def test_ready_reaches_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with listening(path) as systemd:
        notify("READY=1")
        assert systemd.recv(64) == b"READY=1"


def test_ready_reaches_systemd_in_the_abstract_name_space(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"rtnode-test-{uuid4()}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with listening(f"\0{name}") as systemd:
        notify("WATCHDOG=1")
        assert systemd.recv(64) == b"WATCHDOG=1"


def test_nothing_is_sent_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")


def test_the_watchdog_is_fed_twice_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    assert watchdog_interval_s() == 30.0
    monkeypatch.delenv("WATCHDOG_USEC")
    assert watchdog_interval_s() is None


def test_worker_unit_gives_its_processes_the_memory_settings_of_the_engine() -> None:
    environment = unit_environment("rtnode-worker@.service")
    assert {name: int(environment[name]) for name in WORKER_MEMORY} == WORKER_MEMORY
