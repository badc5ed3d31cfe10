"""`acbo info`"""

from __future__ import annotations

import os
import platform
from importlib import metadata
from textwrap import fill
from typing import Any

import click
from acbo_cli.options import echo_json, format_option
from acbo_cli.terminal import ends, width

AVAILABLE = "available"
_LIBRARIES = ("numpy", "scipy", "click", "pyyaml", "jax", "numba", "matplotlib")


@click.command()
@click.option("--keys", is_flag=True, help="List every configuration key with its default and range instead.")
@format_option
def info(keys: bool, output_format: str) -> None:
    """Versions, backends available and why not, devices.

    Paste it into a bug report. With --keys: every key that a config may have.

    \b
    acbo info
    acbo info --keys
    acbo info --format json
    """
    if keys:
        from acbo_ref.config import Config
        from acbo_ref.settings import describe

        rows = describe(Config)
        if output_format == "json":
            echo_json([dict(zip(("key", "default", "allowed", "help"), row, strict=True)) for row in rows])
        else:
            click.echo("\n".join(_described(*row) for row in rows))
            ends(f"{len(rows)} keys", "train", "--config", "quick_test", "--set", "KEY=VALUE")
        return
    facts = _facts()
    if output_format == "json":
        echo_json(facts)
        return
    for name, value in facts.items():
        if value is None:
            continue
        if isinstance(value, dict):
            click.echo(f"{name}:")
            for key, text in value.items():
                click.echo(f"  {key}: {text}")
        else:
            click.echo(f"{name}: {value}")
    usable = [name for name, state in facts["backends"].items() if state == AVAILABLE]
    ends(f"usable backends: {', '.join(usable)}", "info", "--keys")


def _described(key: str, default: str, allowed: str, meaning: str) -> str:
    """A key with its default and what is allowed; below it what it means."""
    indent = " " * 4
    first = fill(f"{key} = {default}  ({allowed})", width(), subsequent_indent=indent, break_on_hyphens=False)
    below = fill(meaning, width(), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return f"{first}\n{below}"


def _facts() -> dict[str, Any]:
    from acbo_fast import BACKEND_NAMES, default_backend, unavailable
    from acbo_ref.config import shipped_configs
    from acbo_ref.version import __version__, commit

    versions = {}
    for library in _LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = "not installed"
    return {
        "acbo": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "libraries": versions,
        "backends": {name: unavailable(name) or AVAILABLE for name in BACKEND_NAMES},
        "default backend": default_backend(),
        "devices": _devices(),
        "configs": ", ".join(shipped_configs()),
    }


def _devices() -> dict[str, str]:
    """Devices that JAX sees, if it is there."""
    try:
        import jax
    except ImportError:
        return {"cpu": "NumPy (JAX is not installed, so no others were looked for)"}
    return {str(device.id): f"{device.platform} {device.device_kind}" for device in jax.devices()}
