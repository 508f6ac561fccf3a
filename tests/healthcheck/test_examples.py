"""The ready-made files of `docs/examples/` are run, as far as this machine can: their commands, probes and HAProxy."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

from config.scratch import clean_environment
from tests.live import (
    PATIENCE,
    ROOT,
    Browser,
    Database,
    Program,
    free_port,
    own_database,
    wait_until,
)

EXAMPLES = ROOT / "docs" / "examples"
UNITS = sorted(EXAMPLES.glob("*.service"))
TIMERS = sorted(EXAMPLES.glob("*.timer"))
MOST_EXPOSED = 25  # of 100, by `systemd-analyze security`; without a word about it, a unit has 96
READY_SECONDS = 0.6  # what `/health/ready` may take


def kubernetes() -> dict[str, dict[str, Any]]:
    """The objects by their names."""
    return {each["metadata"]["name"]: each for each in yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())}


def pod(name: str) -> dict[str, Any]:
    found: dict[str, Any] = kubernetes()[name]["spec"]["template"]["spec"]
    return found


def compose() -> dict[str, Any]:
    """The services that run this project."""
    services = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())["services"]
    return {name: each for name, each in services.items() if each["image"] == "gatehouse:latest"}


def unit(path: Path) -> dict[str, list[tuple[str, str]]]:
    """The sections of a systemd unit; a key may come more than once."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.append((key, value))
    return sections


def commands_of_ours() -> list[list[str]]:
    """Every command line of the examples that runs this project, less the program before it."""
    lines = [each["command"] for name in ("web", "worker") for each in containers(f"gatehouse-{name}")]
    lines += [each["command"] for each in compose().values()]
    drain = pod("gatehouse-web")["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][2]
    lines.append(drain.partition(" && ")[0].split())
    lines += [
        value.split()
        for path in UNITS
        for key, value in unit(path)["Service"]
        if key.startswith("Exec") and "sleep" not in value
    ]
    assert all(Path(line[0]).name == "python" for line in lines), lines
    return [line[1:] for line in lines]


def containers(deployment: str) -> list[dict[str, Any]]:
    return [*pod(deployment).get("initContainers", []), *pod(deployment)["containers"]]


@dataclass
class Host:
    """One host: a web server of its own, which can be drained."""

    port: int
    drain_file: Path
    program: Program
    environment: dict[str, str]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=clean_environment(self.environment), capture_output=True, text=True, timeout=PATIENCE
        )

    def asked_for(self) -> int:
        """How many pages it has answered; probes leave no line."""
        return self.program.says().count('"route"')


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with own_database() as made:
        yield made


@contextlib.contextmanager
def host(database: Database, place: Path) -> Iterator[Host]:
    """The web container of the Kubernetes example, but for its addresses."""
    (container,) = pod("gatehouse-web")["containers"]
    port, drain_file = free_port(), place / f"draining-{os.urandom(4).hex()}"
    given = {each["name"]: each["value"] for each in container["env"]}
    here = {"BIND": "127.0.0.1", "PORT": str(port), "HEALTH_DRAIN_FILE": str(drain_file), "WEB_PROCESSES": "1"}
    environment = given | here | database.environment
    with Program(*container["command"][1:], environment=environment) as program:
        wait_until(lambda: program.process.poll() is not None or is_ready(port), "the host is ready")
        yield Host(port, drain_file, program, environment)


@pytest.fixture(scope="module")
def hosts(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Host]]:
    place = tmp_path_factory.mktemp("hosts")
    with host(database, place) as first, host(database, place) as second:
        yield first, second


def is_ready(port: int) -> bool:
    with contextlib.suppress(OSError):
        return Browser(port, timeout=5).get("/health/ready").status == 200
    return False


# Kubernetes


@pytest.mark.parametrize("name", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_each_probe_of_kubernetes_is_answered_in_its_time(hosts: tuple[Host, Host], name: str) -> None:
    (container,) = pod("gatehouse-web")["containers"]
    probe, ports = container[name], {each["name"]: each["containerPort"] for each in container["ports"]}
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert ports[probe["httpGet"]["port"]] == int(environment["PORT"])
    assert probe["timeoutSeconds"] > READY_SECONDS
    answer = Browser(hosts[0].port).get(probe["httpGet"]["path"])
    assert answer.status == 200
    assert answer.seconds < probe["timeoutSeconds"]


def test_kubernetes_kills_for_want_of_life_only_and_waits_for_the_drain() -> None:
    spec = pod("gatehouse-web")
    (container,) = spec["containers"]
    assert (
        container["livenessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/health/live"
    )
    readiness = container["readinessProbe"]
    assert readiness["httpGet"]["path"] == "/health/ready"
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][2].rpartition("sleep ")[2])
    assert pause > readiness["periodSeconds"] * readiness["failureThreshold"]
    assert spec["terminationGracePeriodSeconds"] >= pause + 30
    mounted = {each["mountPath"] for each in container["volumeMounts"]}
    drain_file = {each["name"]: each["value"] for each in container["env"]}["HEALTH_DRAIN_FILE"]
    assert str(Path(drain_file).parent) in mounted


def test_the_service_of_kubernetes_leads_to_the_web_hosts() -> None:
    service, web = kubernetes()["gatehouse"]["spec"], kubernetes()["gatehouse-web"]["spec"]
    template = web["template"]
    assert service["selector"] == web["selector"]["matchLabels"] == template["metadata"]["labels"]
    (port,) = template["spec"]["containers"][0]["ports"]
    assert service["ports"][0]["targetPort"] == port["name"]
    annotations = template["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port["containerPort"])
    assert annotations["prometheus.io/path"].startswith("/health/")
    labels = kubernetes()["gatehouse-worker"]["spec"]["template"]["metadata"]["labels"]
    assert labels != service["selector"]


def test_the_last_command_of_kubernetes_drains_the_host(hosts: tuple[Host, Host]) -> None:
    (container,) = pod("gatehouse-web")["containers"]
    shell, option, line = container["lifecycle"]["preStop"]["exec"]["command"]
    assert (shell, option) == ("sh", "-c")
    drain = line.partition(" && ")[0].split()
    assert hosts[0].run(*drain[1:]).returncode == 0
    assert (is_ready(hosts[0].port), is_ready(hosts[1].port)) == (False, True)
    assert hosts[0].run("manage.py", "health", "drain", "--off").returncode == 0
    assert is_ready(hosts[0].port)


# Compose


def test_the_health_check_of_compose_fails_while_the_host_is_drained(hosts: tuple[Host, Host]) -> None:
    kind, program, *arguments = compose()["first"]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    assert int(compose()["first"]["environment"]["PORT"]) == 8000
    here = [argument.replace(":8000/", f":{hosts[0].port}/") for argument in arguments]
    assert here != arguments
    assert hosts[0].run(*here).returncode == 0
    hosts[0].drain_file.touch()
    assert hosts[0].run(*here).returncode == 1
    hosts[0].drain_file.unlink()


def test_compose_starts_things_in_an_order_that_exists() -> None:
    services = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())["services"]
    for service in services.values():
        for other, condition in service.get("depends_on", {}).items():
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in services[other]
    assert services["health"]["environment"]["DATABASE_URL"] == services["first"]["environment"]["DATABASE_URL"]
    assert services["health"]["ports"] == ["127.0.0.1:8001:8001"]
    assert ":8001/health/live" in services["health"]["healthcheck"]["test"][3]


# All of them


def test_every_command_of_the_examples_exists(hosts: tuple[Host, Host]) -> None:
    found = commands_of_ours()
    assert {tuple(line) for line in found if line[0] == "-m"} == {
        ("-m", "gunicorn", "--config", "python:config.gunicorn")
    }
    managed = [line[1:] for line in found if line[0] == "manage.py"]
    assert len(managed) > 8
    for name, *_arguments in managed:
        assert name in get_commands()
    for arguments in ([*line, "--help"] for line in {tuple(line): line for line in managed}.values()):
        assert hosts[0].run("manage.py", *arguments).returncode == 0


def test_every_variable_of_the_examples_is_one() -> None:
    known = set(re.findall(r"^#([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    used = {each["name"] for container in containers("gatehouse-web") for each in container["env"]}
    used |= {name for each in compose().values() for name in each["environment"]}
    used |= {value.partition("=")[0] for path in UNITS for key, value in unit(path)["Service"] if key == "Environment"}
    assert used <= known
    assert "HEALTH_DRAIN_FILE" in used


# systemd


def analyze(*arguments: str, units: list[Path], place: Path) -> subprocess.CompletedProcess[str]:
    """What systemd says of copies of `units`, whose place and account are this machine's: what they name must exist."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd on this machine")
    copies = [place / path.name for path in units]
    for path, copy in zip(units, copies, strict=True):
        text = path.read_text().replace("/opt/gatehouse", str(ROOT)).replace("User=gatehouse", "User=root")
        copy.write_text(re.sub(r"^EnvironmentFile=.*\n", "", text, flags=re.MULTILINE))
    return subprocess.run([program, *arguments, *map(str, copies)], capture_output=True, text=True, timeout=60)


def test_systemd_understands_each_unit(tmp_path: Path) -> None:
    units = [*UNITS, *TIMERS]
    assert len(units) == 7
    done = analyze("verify", "--man=no", "--recursive-errors=no", units=units, place=tmp_path)
    complaints = [line for line in done.stderr.splitlines() if "gatehouse-" in line or "Unknown" in line]
    assert (done.returncode, complaints) == (0, [])


def test_systemd_finds_little_that_a_unit_may_do_and_need_not(tmp_path: Path) -> None:
    limit = f"--threshold={MOST_EXPOSED}"
    done = analyze("security", "--offline=yes", "--no-pager", limit, units=UNITS, place=tmp_path)
    assert done.returncode == 0, done.stdout


def test_each_timer_starts_a_backup_at_a_time_that_systemd_knows() -> None:
    services = {path.stem: dict(unit(path)["Service"]) for path in UNITS}
    commands = {path.stem: services[path.stem]["ExecStart"].partition("manage.py ")[2] for path in TIMERS}
    assert commands == {"gatehouse-backup": "backup", "gatehouse-backup-verify": "backup --verify"}
    directories = {services[path.stem]["Environment"] for path in TIMERS}
    assert directories == {"BACKUP_DIRECTORY=/var/lib/gatehouse/backups"}
    assert {services[path.stem]["StateDirectory"] for path in TIMERS} == {"gatehouse"}  # /var/lib/gatehouse
    program = shutil.which("systemd-analyze")
    if program is not None:
        times = [dict(unit(path)["Timer"])["OnCalendar"] for path in TIMERS]
        assert subprocess.run([program, "calendar", *times], capture_output=True, timeout=60).returncode == 0


def test_the_watchdog_of_systemd_waits_for_several_signs_of_life() -> None:
    from healthcheck.serving import WATCHDOG_SECONDS

    service = dict(unit(EXAMPLES / "gatehouse-health.service")["Service"])
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) >= 3 * WATCHDOG_SECONDS


# HAProxy


def haproxy_with(port: int, hosts: tuple[Host, Host]) -> str:
    """The documented configuration, on a port of the test's, in front of its hosts and without TLS."""
    text = (EXAMPLES / "haproxy.cfg").read_text()
    for shipped, here in (
        ("bind :80\n", f"bind 127.0.0.1:{free_port()}\n"),
        ("bind :443 ssl crt /etc/haproxy/gatehouse.pem alpn h2,http/1.1", f"bind 127.0.0.1:{port}"),
        ("192.0.2.11:8000", f"127.0.0.1:{hosts[0].port}"),
        ("192.0.2.12:8000", f"127.0.0.1:{hosts[1].port}"),
    ):
        assert text.count(shipped) == 1, shipped
        text = text.replace(shipped, here)
    return text


@pytest.fixture
def haproxy(hosts: tuple[Host, Host], tmp_path: Path) -> Iterator[Browser]:
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        pytest.skip("no haproxy on this machine")
    browser = Browser(free_port())
    (tmp_path / "haproxy.cfg").write_text(haproxy_with(browser.port, hosts))
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen([program, "-db", "-f", str(tmp_path / "haproxy.cfg")], stderr=said, stdout=said)
        try:
            wait_until(lambda: process.poll() is not None or is_page(browser), "haproxy answers", seconds=20)
            assert process.poll() is None, (tmp_path / "said").read_text()
            yield browser
        finally:
            process.terminate()
            process.wait(20)


def is_page(browser: Browser) -> bool:
    with contextlib.suppress(OSError):
        return browser.get("/accounts/login/").status == 200
    return False


def shares(browser: Browser, hosts: tuple[Host, Host], pages: int = 20) -> tuple[int, int]:
    """Ask for so many pages; returns how many each of the hosts answered."""
    before = [host.asked_for() for host in hosts]
    assert {browser.get("/accounts/login/").status for _ in range(pages)} == {200}
    first, second = (host.asked_for() - count for host, count in zip(hosts, before, strict=True))
    return first, second


def test_haproxy_takes_a_drained_host_out_and_brings_it_back(haproxy: Browser, hosts: tuple[Host, Host]) -> None:
    wait_until(lambda: min(shares(haproxy, hosts)) > 0, "both hosts are used", seconds=10)
    hosts[0].drain_file.touch()
    wait_until(lambda: shares(haproxy, hosts) == (0, 20), "only the other one is used", seconds=5)
    hosts[0].drain_file.unlink()
    wait_until(lambda: min(shares(haproxy, hosts)) > 0, "it is used again", seconds=5)
