"""`acbo verify`"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from acbo_cli.options import echo_json, format_option
from acbo_cli.terminal import ends, legend_option, table

if TYPE_CHECKING:
    from acbo_ref.verify.checks import Check

LEGEND = {
    "group": "what is checked: a layer, a term of the loss, the whole policy, decisions step by step; or a backend",
    "relative error": "the largest difference over the largest number: of a gradient by hand from the one by finite "
    "differences, or of a backend's numbers from the reference's",
    "allowed": "the error from which on a check fails",
    "checks": "how many there are in the group; its error is the one that comes nearest to what is allowed",
}


@click.command()
@click.option(
    "--backend",
    default="ref",
    show_default=True,
    help="ref checks its gradients by finite differences; others are compared with ref too.",
)
@click.option("-v", "--verbose", is_flag=True, help="Print every check, not only groups of them.")
@legend_option(LEGEND)
@format_option
def verify(backend: str, verbose: bool, output_format: str) -> int:
    """Check every hand-written gradient, and a backend against the reference.

    Exit code 1 if anything fails.

    \b
    acbo verify
    acbo verify --backend jax
    acbo verify --verbose
    """
    from acbo_fast import available, backend_maker, backend_pieces
    from acbo_ref.verify.gradients import verify_reference
    from acbo_ref.verify.parity import verify_backend

    maker = backend_maker(backend)
    checks = verify_reference()
    if backend != "ref":
        checks += verify_backend(maker, backend_pieces(backend))
    failed = [check for check in checks if not check.okay]
    okay, again = not failed, ["verify", *(["--backend", backend] if backend != "ref" else [])]
    if output_format == "json":
        echo_json(
            {
                "format": "acbo-verify/1",
                "backend": backend,
                "okay": okay,
                "checks": [
                    {
                        "group": c.group,
                        "name": c.name,
                        "error": c.error if math.isfinite(c.error) else None,
                        "tolerance": c.tolerance,
                        "okay": c.okay,
                    }
                    for c in checks
                ],
            }
        )
    else:
        click.echo(by_check(checks) if verbose else by_group(checks))
        gradients = [c.error for c in checks if c.group.startswith(("layer", "term", "policy"))]
        click.echo(f"\n{len(checks)} checks; worst relative error of a hand-written gradient {max(gradients):.1e}")
        click.echo("overall okay" if okay else f"overall FAILED: {', '.join(f'{c.group}: {c.name}' for c in failed)}")
    if not okay:
        ends(f"{len(failed)} of {len(checks)} checks failed", *again, "--verbose")
    else:
        others = [name for name in available() if name not in ("ref", backend)]
        more = ("verify", "--backend", others[0]) if others else ("train", "--config", "quick_test")
        ends(f"all {len(checks)} checks passed", *more)
    return 0 if okay else 1


def by_group(checks: Sequence[Check]) -> str:
    """A line a group, with the check that comes nearest to failing; and every one that fails."""
    groups: dict[str, list[Check]] = {}
    for check in checks:
        groups.setdefault(check.group, []).append(check)
    rows = []
    for group, members in groups.items():
        worst = max(members, key=lambda c: c.error / c.tolerance if math.isfinite(c.error) else math.inf)
        failed = [c for c in members if not c.okay]
        result = f"FAILED: {len(failed)}" if failed else "okay"
        rows.append([group, str(len(members)), *_errors(worst), result])
    text = table(["group", "checks", "relative error", "allowed", ""], rows)
    failed = [c for c in checks if not c.okay]
    return text + (f"\n\n{by_check(failed)}" if failed else "")


def by_check(checks: Sequence[Check]) -> str:
    """A line a check, below the name of its group."""
    rows, group = [], None
    for check in checks:
        if check.group != group:
            group = check.group
            rows.append([group, "", "", ""])
        rows.append([f"  {check.name}", *_errors(check), "okay" if check.okay else "FAILED"])
    return table(["check", "relative error", "allowed", ""], rows)


def _errors(check: Check) -> list[str]:
    return [f"{check.error:.1e}", f"{check.tolerance:.0e}"]
