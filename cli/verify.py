"""`acbo verify`"""

from __future__ import annotations

import math

import click
from acbo_cli.options import echo_json, format_option, table


@click.command()
@click.option(
    "--backend",
    default="ref",
    show_default=True,
    help="ref checks its gradients by finite differences; others are compared with ref too.",
)
@format_option
def verify(backend: str, output_format: str) -> int:
    """Check every hand-written gradient, and a backend against the reference. Exit code 1 if anything fails."""
    from acbo_fast import backend_maker
    from acbo_ref.verify import Check, verify_backend, verify_reference

    maker = backend_maker(backend)
    checks = verify_reference()
    if backend != "ref":
        checks += verify_backend(maker)
    okay = all(check.okay for check in checks)
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
        return 0 if okay else 1

    def row(c: Check) -> list[str]:
        return [f"{c.group}: {c.name}", f"{c.error:.1e}", f"{c.tolerance:.0e}", "okay" if c.okay else "FAILED"]

    click.echo(table(["check", "relative error", "allowed", ""], [row(c) for c in checks]))
    gradients = [c.error for c in checks if c.group.startswith(("layer", "term", "policy"))]
    click.echo(f"\n{len(checks)} checks; worst relative error of a hand-written gradient {max(gradients):.1e}")
    click.echo(
        "overall okay" if okay else "overall FAILED: " + ", ".join(f"{c.group}: {c.name}" for c in checks if not c.okay)
    )
    return 0 if okay else 1
