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
    """Check every hand-written gradient, and a backend against the reference. Exit code 1 if
    anything fails.
    """
    from acbo_fast import backend_maker, backend_pieces
    from acbo_ref.verify.checks import Check
    from acbo_ref.verify.gradients import verify_reference
    from acbo_ref.verify.parity import verify_backend

    maker = backend_maker(backend)
    checks = verify_reference()
    if backend != "ref":
        checks += verify_backend(maker, backend_pieces(backend))
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
