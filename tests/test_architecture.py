import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "cepcli"

#: Imports go down only: a package imports itself and what stands in a line before its own.
ORDER = [
    {"errors", "types", "registry", "seeding", "version", "whole_files", "child_processes"},
    {"config", "device", "extras", "listener"},
    {"workspace"},
    {"posterior", "envs"},
    {"prior"},
    {"keys"},
    {"abstraction"},
    {"annotate"},
    {"cache"},
    {"datasets"},
    {"agents"},
    {"runs"},
    {"report"},
    {"experiments", "bench"},
]
#: What some of them leave alone all the same.
STRANGERS = {
    "prior": {"envs"},
    "keys": {"envs", "prior"},
    "cache": {"envs", "annotate"},
    "report": {
        "posterior", "envs", "prior", "keys", "abstraction", "annotate", "cache", "datasets",
        "agents", "runs",
    },
}  # fmt: skip
FILES = sorted(PACKAGE.rglob("*.py"))


def imports_of(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cepcli"):
            yield node.module.removeprefix("cepcli").lstrip(".")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("cepcli."):
                    yield alias.name.removeprefix("cepcli.")


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_point_down_only(file):
    package = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if package in ("cli", "api", "__init__", "__main__"):
        return
    line = next(number for number, packages in enumerate(ORDER) if package in packages)
    allowed = set().union(*ORDER[:line], {package}) - STRANGERS.get(package, set())
    for module in imports_of(file):
        assert not module or module.split(".")[0] in allowed, (
            f"{file.relative_to(ROOT)} imports cepcli.{module}"
        )


def test_the_cache_knows_what_a_prior_is_and_no_backend():
    for file in (PACKAGE / "cache").rglob("*.py"):
        for module in imports_of(file):
            assert not module.startswith("prior") or module == "prior.base", (file, module)


def test_nothing_imports_the_command_line():
    for file in FILES:
        if file.relative_to(PACKAGE).parts[0] not in ("cli", "__main__.py"):
            assert not any(module.split(".")[0] == "cli" for module in imports_of(file)), file


def test_the_public_functions_are_imported_by_the_package_alone():
    for file in FILES:
        if file.relative_to(PACKAGE) != Path("__init__.py"):
            assert "api" not in imports_of(file), file
    assert not any(module.split(".")[0] == "cli" for module in imports_of(PACKAGE / "api.py"))


def test_importing_the_package_loads_no_library():
    code = (
        "import sys; before = {*sys.modules}; import cepcli;"
        "new = {name.partition('.')[0] for name in {*sys.modules} - before};"
        "print(new - sys.stdlib_module_names)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'cepcli'}"


def test_every_public_name_is_there_and_typed():
    import cepcli

    for name in cepcli.__all__:
        assert getattr(cepcli, name) is not None
        assert name in dir(cepcli)
    (typed,) = (node for node in ast.parse((PACKAGE / "__init__.py").read_text()).body
                if isinstance(node, ast.If))  # fmt: skip
    imported = {
        a.name for node in typed.body if isinstance(node, ast.ImportFrom) for a in node.names
    }
    assert imported == {*cepcli.__all__} - {"__version__"}
    assert (PACKAGE / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute `nothing`"):
        _ = cepcli.nothing


def test_help_loads_no_heavy_library():
    code = (
        "import sys, cepcli.cli.main;"
        "heavy = {'torch', 'transformers', 'peft', 'gymnasium', 'matplotlib', 'scipy', 'numpy',"
        " 'pandas'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version_is_the_same_everywhere():
    from cepcli import __version__

    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"version: {__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()
