"""The files that tell how Gatehouse is deployed, done by hand as far as a machine without Docker and systemd can.

The hosts of `several` are started by the lines of the Procfile, behind the documented nginx and PgBouncer.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config.embedded_postgres import SUPERUSER
from tests.hosts.files import EXAMPLES, compose, containerfile, images, in_exec_form, of_containerfile, procfile
from tests.hosts.several import Several
from tests.live import ROOT, Browser, Program, free_port, wait_until


def answers(port: int, path: str) -> bool:
    with contextlib.suppress(OSError):
        return Browser(port, timeout=5).get(path).status == 200
    return False


# Procfile


def test_the_procfile_has_all_of_a_host_and_its_probes_answer_apart(several: Several) -> None:
    commands = procfile()
    assert list(commands) == ["web", "worker", "health"]  # the first two are how `several` runs
    port = free_port()
    with Program(*commands["health"], environment=several.hosts[0].environment | {"HEALTH_PORT": str(port)}) as program:
        wait_until(lambda: program.process.poll() is not None or answers(port, "/health/ready"), "it is ready")
        assert program.process.poll() is None, program.says()


# The container file


@pytest.fixture
def image() -> Iterator[Path]:
    """What the steps of the container file make, less what comes from registries; only root may write there."""
    above = Path(tempfile.mkdtemp(prefix="gatehouse-image-")).resolve()
    above.chmod(0o755)
    project = above / "gatehouse"
    project.mkdir()
    try:
        for source, target in (rest.split() for rest in of_containerfile("COPY") if not rest.startswith("--from")):
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy2
            copy(ROOT / source, project / target)
        (collect,) = (step for step in of_containerfile("RUN") if "manage.py" in step)
        line = collect.replace(".venv/bin/python", shlex.quote(sys.executable))
        environment = {"PATH": os.environ["PATH"]}  # and none of the settings of here
        subprocess.run(["sh", "-c", f"{line} --dry-run"], cwd=project, env=environment, check=True, timeout=60)
        shutil.copytree(ROOT / ".static", project / ".static")  # it takes seconds to make what is there already
        subprocess.run(["chmod", "-R", "u=rwX,go=rX", project], check=True)
        yield project
    finally:
        shutil.rmtree(above)


@dataclass
class Container:
    """A place in which the image's commands run as somebody who is not root and may write in `place` only."""

    image: Path
    place: Path
    environment: dict[str, str]

    def command(self, arguments: list[str]) -> dict[str, Any]:
        """For subprocess: a command of the container file."""
        assert arguments[0] == "python"
        # This Python may be where only root can read; so much is allowed, and nothing else.
        may_read = [
            "--inh-caps=+dac_read_search",
            "--ambient-caps=+dac_read_search",
            "--bounding-set=-all,+dac_read_search",
        ]
        who = ["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs"]
        command = ["setpriv", *who, *may_read, sys.executable, *arguments[1:]]
        return {"args": command, "cwd": self.image, "env": self.environment, "stdin": subprocess.DEVNULL}


@pytest.fixture
def container(image: Path, several: Several) -> Iterator[Container]:
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can become somebody else")
    place = Path(tempfile.mkdtemp(prefix="gatehouse-run-")).resolve()
    shutil.chown(place, "nobody")
    settings = dict(line.split("=", 1) for line in of_containerfile("ENV"))
    environment = {name: value.replace("/run/gatehouse", str(place)) for name, value in settings.items()}
    environment |= several.hosts[0].shared | {"PORT": str(free_port()), "TMPDIR": str(place), "WEB_PROCESSES": "1"}
    environment |= {name: os.environ[name] for name in ("SECRET_KEY", "ENVIRONMENT", "PATH")}
    yield Container(image, place, environment)
    shutil.rmtree(place)


def test_the_steps_of_the_container_file_make_a_site_that_nobody_can_run(container: Container) -> None:
    port, said = int(container.environment["PORT"]), container.image.parent / "said"
    probe = container.command(in_exec_form(of_containerfile("HEALTHCHECK")[0]))

    def is_healthy() -> bool:
        return subprocess.run(**probe, stderr=subprocess.DEVNULL).returncode == 0

    with said.open("wb") as log:
        process = subprocess.Popen(
            **container.command(in_exec_form(of_containerfile("CMD")[0])), stdout=log, stderr=log
        )
    try:
        wait_until(lambda: process.poll() is not None or answers(port, "/health/ready"), "it is ready")
        assert process.poll() is None, said.read_text()
        assert Path(f"/proc/{process.pid}").stat().st_uid == pwd.getpwnam("nobody").pw_uid
        assert is_healthy()
        style = re.search(r'href="(/static/[^"]+\.[0-9a-f]{12}\.css)"', Browser(port).get("/accounts/login/").body)
        assert style  # hashed, so they were collected when the image was made
        assert Browser(port).get(style[1]).status == 200
        Path(container.environment["HEALTH_DRAIN_FILE"]).touch()
        assert not is_healthy()
        process.send_signal(getattr(signal, of_containerfile("STOPSIGNAL")[0]))
        assert process.wait(30) == 0
        assert "not_shared" not in said.read_text()  # it could write where it counts
    finally:
        process.kill()
        process.wait()


def test_the_container_file_leaves_root_and_forgets_nothing_of_the_project() -> None:
    last_user = of_containerfile("USER")[-1]
    assert int(last_user) > 0
    assert any(f"--uid {last_user} " in step for step in of_containerfile("RUN"))
    names = [name for name, _rest in containerfile()]
    assert names.index("USER") < names.index("CMD")
    copied = {rest.split()[0] for rest in of_containerfile("COPY") if not rest.startswith("--from")}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert copied == packages | {"templates", "manage.py", "requirements.txt"}
    ignored = (EXAMPLES / "Containerfile.dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == copied


def test_every_image_is_pinned_to_a_version() -> None:
    found = list(images())
    assert len(found) >= 5
    for image in found:
        name, _, tag = image.partition(":")
        assert re.fullmatch(r"[a-z]+", name), image  # an official one, without a registry's host
        assert re.fullmatch(r"\d+\.\d+[.\w-]*", tag), image


# Compose


def test_compose_has_two_hosts_that_differ_in_their_address_only() -> None:
    services = compose()["services"]
    first, second = (dict(services[name]) for name in ("first", "second"))
    addresses = [each.pop("networks")["default"]["ipv4_address"] for each in (first, second)]
    assert first == second
    assert len(set(addresses)) == 2
    assert all(f"{address}:8000" in (EXAMPLES / "compose.yaml").read_text() for address in addresses)
    assert set(services["nginx"]["depends_on"]) == {"first", "second"}


def test_the_hosts_of_compose_go_through_pgbouncer_and_their_owner_past_it() -> None:
    services = compose()["services"]
    environment = services["first"]["environment"]
    assert "@pgbouncer:6432/gatehouse" in environment["DATABASE_URL"]
    assert "@primary:5432/gatehouse" in environment["DATABASE_DIRECT_URL"]
    assert environment["DATABASE_POOLER"] == "transaction"
    pooler = (EXAMPLES / "pgbouncer.ini").read_text()
    assert {"listen_port = 6432", "pool_mode = transaction"} <= set(pooler.splitlines())
    assert "gatehouse = host=primary " in pooler


def test_what_compose_mounts_is_there_or_the_administrators() -> None:
    text, services = (EXAMPLES / "compose.yaml").read_text(), compose()["services"]
    mounted = {volume.partition(":")[0] for each in services.values() for volume in each.get("volumes", [])}
    files = {source.removeprefix("./") for source in mounted if source.startswith("./")}
    for file in files:
        assert (EXAMPLES / file).exists() or f"`{file}`" in text or f"`{file}/`" in text, file
    assert mounted - {f"./{file}" for file in files} == set(compose()["volumes"])
    passwords = set(re.findall(r"\$\{([A-Z_]+):\?\}", text))
    assert all(re.search(rf"^#.*\b{name}\b", text, re.MULTILINE) for name in passwords)


def test_the_script_of_the_primary_makes_roles_that_can_do_what_they_must(several: Several, tmp_path: Path) -> None:
    # Under names of its own: these roles exist on the server of the tests.
    text = (EXAMPLES / "primary.sh").read_text().replace("gatehouse", "elsewhere")
    database = several.database
    environment = {
        "PATH": f"{database.cluster.binaries}:{os.environ['PATH']}",
        "PGHOST": str(database.cluster.socket_directory()),
        "PGDATA": str(tmp_path),
        "POSTGRES_USER": SUPERUSER,
        **dict.fromkeys(("OWNER_PASSWORD", "APP_PASSWORD", "REPLICATION_PASSWORD"), "it's-a-secret"),
    }
    try:
        subprocess.run(["sh", "-c", text], env=environment, check=True, timeout=60)
        made = database.rows(
            "SELECT rolname, rolcanlogin, rolsuper, rolcreatedb, rolreplication, rolpassword LIKE 'SCRAM%%'"
            " FROM pg_authid WHERE rolname LIKE 'elsewhere%%' ORDER BY 1"
        )
        assert made == [
            ("elsewhere_app", True, False, False, False, True),
            ("elsewhere_owner", True, False, True, False, True),
            ("elsewhere_replication", True, False, False, True, True),
        ]
        owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'elsewhere'"
        assert database.value(owner) == "elsewhere_owner"
        assert "host replication elsewhere_replication all scram-sha-256" in (tmp_path / "pg_hba.conf").read_text()
    finally:
        database.rows("DROP DATABASE IF EXISTS elsewhere")
        database.rows("DROP ROLE IF EXISTS elsewhere_owner, elsewhere_app, elsewhere_replication")


def test_the_standby_of_compose_copies_only_into_an_empty_directory(tmp_path: Path) -> None:
    shell, option, line = compose()["services"]["standby"]["command"]
    assert (shell, option) == ("sh", "-c")
    for program in ("pg_basebackup", "postgres"):
        lines = ["#!/bin/sh", f"echo {program} >>$PGDATA/../called"]
        if program == "pg_basebackup":
            lines.append("echo 18 >$PGDATA/PG_VERSION")
        (tmp_path / program).write_text("\n".join(lines))
        (tmp_path / program).chmod(0o755)
    data = tmp_path / "data"
    data.mkdir()
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PGDATA": str(data)}
    for _start in range(2):
        subprocess.run([shell, option, line.replace("$$", "$")], env=environment, check=True, timeout=20)
    assert (tmp_path / "called").read_text().split() == ["pg_basebackup", "postgres", "postgres"]
