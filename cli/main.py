"""`acbo`: the entry point, with one way to print every error.

Commands are imported when they are called, so that `acbo --help` is quick.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click
from acbo_cli.blas import choose_kernels

choose_kernels()

# In the order of use.
_COMMANDS = {
    "campaign": "Spend real experiments: ask for one, tell what came out.",
    "train": "Train a policy on random causal models.",
    "evaluate": "Compare a policy with baselines on systems it has never seen.",
    "analyze": "Turn runs and evaluations into one self-contained report.",
    "verify": "Check every gradient, and a backend against the reference.",
    "info": "Versions, backends, devices and configuration keys.",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"acbo_cli.{name}"), name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            from acbo_ref.errors import did_you_mean

            raise click.UsageError(f"no command named {args[0]!r}; {did_you_mean(args[0], _COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


def _version(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        from acbo_ref.version import __version__, commit

        found = commit()
        click.echo(f"acbo {__version__}" + (f" (commit {found})" if found else ""))
        context.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
def cli(debug: bool) -> None:
    """Find the setting that makes a process better, in few experiments.

    The policy that proposes them ships with acbo; `train` makes another one, `evaluate` compares.

    \b
    acbo campaign new reactor --data past.csv --target yield --maximize \\
        --domain-from-data
    acbo campaign ask reactor
    acbo evaluate --quick
    acbo train --config quick_test

    Every command has its own --help, with examples.
    """


def fail(message: str, hint: str, code: int) -> int:
    """Print an error and its hint to stderr; returns the exit code."""
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    return code


def run(args: list[str]) -> int:
    """Run one command line and return its exit code: 0, 1 a failed run, 2 a usage error, 130
    interrupted.
    """
    from acbo_ref.errors import AcboError

    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    try:
        result = cli.main(args, prog_name="acbo", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        message = error.format_message()
        hint = f"{context.command_path} --help lists what is allowed" if context is not None else ""
        if message.startswith("Got unexpected extra argument"):
            hint = f"a name with spaces needs quotes, 'a long name=VALUE'; {hint}"
        return fail(message, hint, error.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return fail("interrupted", "", 130)
    except AcboError as error:
        if debug:
            raise
        return fail(error.message, error.hint, error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our stdout went away, as `| head` does
        return 1
    except MemoryError:
        if debug:
            raise
        return fail("out of memory", "reduce batch_size, policy.hidden_dim or the number of variables", 1)
    except Exception as error:
        if debug:
            raise
        return fail(
            f"internal error: {type(error).__name__}: {error}",
            "run again with --debug and report the traceback together with `acbo info`",
            1,
        )


def main() -> None:
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
