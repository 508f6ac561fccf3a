"""The sample apps use documented names only, and the table of them in docs/extending.md holds no dead ones."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from tests.live import ROOT

APPS = ("tasks", "queries", "machines")
OURS = ("accounts", "auditlog", "config", "healthcheck")
HERE = Path(__file__).parent
TEMPLATES = "templates"
_ROW = re.compile(r"^\| `([\w./]+)` \| `([\w./]+)` \|", re.M)
_BUILDS_ON = re.compile(r"""\{% (?:extends|include) ["']([^"']+)["']""")
_ROUNDABOUT = ("getattr", "__import__", "import_module", "get_model", "modules")
Name = tuple[str, str]


def public() -> set[Name]:
    """Module and name of every row of the table."""
    return set(_ROW.findall((ROOT / "docs/extending.md").read_text()))


def is_ours(module: str) -> bool:
    return module.split(".")[0] in OURS


class Uses(ast.NodeVisitor):
    """What a module takes from ours, `names`, and how else it lays hands on them, `faults`."""

    def __init__(self, tree: ast.Module, modules: set[str]) -> None:
        self.modules, self.bound = modules, dict[str, str]()
        self.names, self.faults = set[Name](), list[str]()
        for node in ast.walk(tree):  # before anything is looked at: an import may stand in a function
            if isinstance(node, ast.Import):
                self._import(node)
            elif isinstance(node, ast.ImportFrom):
                self._import_from(node)
        self.visit(tree)

    def _import(self, node: ast.Import) -> None:
        for alias in node.names:
            if "." in alias.name and is_ours(alias.name):
                self.faults.append(f"import {alias.name}")
            elif is_ours(alias.name):
                self.bound[alias.asname or alias.name] = alias.name

    def _import_from(self, node: ast.ImportFrom) -> None:
        if node.level:
            self.faults.append("a relative import")
        for alias in node.names if is_ours(node.module or "") else ():
            inner = f"{node.module}.{alias.name}"
            if inner in self.modules:
                self.bound[alias.asname or alias.name] = inner
            else:
                self.names.add((str(node.module), alias.name))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name) and node.value.id in self.bound:
            self.names.add((self.bound[node.value.id], node.attr))
            return
        if node.attr in _ROUNDABOUT:
            self.faults.append(node.attr)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self.bound or node.id in _ROUNDABOUT:
            self.faults.append(f"{node.id}, which hides what is used")


def faults_of(source: str, allowed: set[Name]) -> list[str]:
    found = Uses(ast.parse(source), {module for module, _name in allowed})
    return [*found.faults, *(f"{module}.{name}" for module, name in sorted(found.names - allowed))]


def bases_of(sources: dict[str, str]) -> list[str]:
    """The classes of these modules that others of them build on, or that are made to be built on."""
    classes = [
        node for text in sources.values() for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)
    ]
    own = {node.name for node in classes} - {"Migration"}  # the one name that Django gives them
    found = [node.name for node in classes if any(_last_name(base) in own for base in node.bases)]
    return found + [node.name for node in classes if "abstract = True" in ast.unparse(node)]


def _last_name(base: ast.expr) -> str:
    """Of ``forms.ModelForm[Task]`` ModelForm: what stands in brackets is not built on."""
    return ast.unparse(base).partition("[")[0].rpartition(".")[2]


def sources(app: str) -> dict[str, str]:
    return {str(path.relative_to(HERE)): path.read_text() for path in sorted((HERE / app).rglob("*.py"))}


@pytest.mark.parametrize("app", APPS)
def test_an_app_uses_public_names_only(app: str) -> None:
    faults = {path: faults_of(text, public()) for path, text in sources(app).items()}
    assert len(faults) > 8
    assert not {path: found for path, found in faults.items() if found}


@pytest.mark.parametrize("app", APPS)
def test_an_app_builds_on_public_templates_only(app: str) -> None:
    pages = list((HERE / app).rglob("*.html"))
    used = {name for page in pages for name in _BUILDS_ON.findall(page.read_text())}
    assert pages and {(TEMPLATES, name) for name in used if not name.startswith(f"{app}/")} <= public()


def test_no_app_has_a_base_class_of_its_own() -> None:
    assert not bases_of({path: text for app in APPS for path, text in sources(app).items()})


def test_every_public_name_is_there_and_somebody_uses_it() -> None:
    pages = {(TEMPLATES, name) for page in HERE.rglob("*.html") for name in _BUILDS_ON.findall(page.read_text())}
    assert sorted(_unused(public() - pages)) == []
    for module, name in public():
        if module == TEMPLATES:
            assert (ROOT / TEMPLATES / name).is_file()
        else:
            assert hasattr(import_module(module), name), f"{module}.{name}"


def _unused(names: set[Name]) -> set[Name]:
    """Those of `names` that neither a sample app nor a test uses; the apps are read first, as they use most."""
    modules = {module for module, _name in names}
    for path in [*HERE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        text = path.read_text()
        if any(name in text and module.split(".")[-1] in text for module, name in names):  # to parse it takes longer
            names = names - Uses(ast.parse(text), modules).names
    return names


ALLOWED = {("config.rows", "Owned"), ("config.bulk", "delete"), ("auditlog", "register")}


@pytest.mark.parametrize(
    "source",
    [
        "from config.rows import Versioned",
        "from config import rows\nrows.Versioned",
        "from config import worker",
        "def late():\n    from config import bulk as many\n    many.create()",
        "import auditlog\nauditlog.unregister",
        "import auditlog.registry",
        "import auditlog\nregistry = auditlog",
        "from config import bulk\ngetattr(bulk, name)",
        "from ...accounts import models",
        "from django.apps import apps\napps.get_model('accounts.User')",
        "import sys\nsys.modules['accounts.models'].User",
        "from config.rows import *",
    ],
)
def test_whatever_is_not_public_is_found(source: str) -> None:
    assert faults_of(source, ALLOWED)
    assert not faults_of("import auditlog\nfrom config import bulk\nbulk.delete(auditlog.register)", ALLOWED)


@pytest.mark.parametrize(
    "source",
    [
        "class A: pass\nclass B(A): pass",
        "class A: pass\nclass B(models.A[int]): pass",
        "class A(models.Model):\n class Meta:\n  abstract = True",
    ],
)
def test_a_base_class_is_found(source: str) -> None:
    assert bases_of({"models.py": source})
    assert not bases_of({"models.py": "class A(models.Model):\n class Meta: pass\nclass B(Form[A]): pass"})
