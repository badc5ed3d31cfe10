"""Training and comparing, a call each: what `acbo train` and `acbo evaluate` do, from Python.

Contract: thin. A backend is named, systems are objects, and the rest is `acbo_ref.Trainer` and
`acbo_ref.evaluate`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acbo_ref.arena.compare import EvaluationSettings
    from acbo_ref.config import Config
    from acbo_ref.systems.scm import SCM
    from acbo_ref.training.checkpoint import Checkpoint
    from acbo_ref.training.trainer import TrainResult


def evaluate(
    checkpoint: Checkpoint | str | Path | None = None,
    settings: EvaluationSettings | None = None,
    *,
    systems: Sequence[SCM] | None = None,
    backend: str | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Compare the policy with other methods, on systems of your own or on the suites that ship.

        report = acbo.evaluate(systems=[plant], methods=["policy", "regress", "oracle"])
        report["suites"][0]["methods"]["policy"]["score"]["mean"]

    Args:
        checkpoint: the policy: a checkpoint, its file or a run folder; default the one that ships,
            if a method needs one.
        settings: all of them at once; see EvaluationSettings.
        systems: these form one suite, "files", which then is the only one unless `suites` are
            named. Values of their variables are in the systems' own units.
        backend: who computes the policy's decisions: "ref" (the default), "numba" or "jax".
        changes: single settings, as keywords: methods=["policy", "regress"], suites=["simple"],
            observations (rows before the first intervention), interventions (20), seed (0), quick,
            output (a folder, in which an interrupted comparison goes on), workers (1).

    Returns:
        the report, plain data: {"format", "settings", "suites": [{"name", "scms", "clusters",
        "observations", "methods": {method: {metric: value}}}]}. Most metrics are {"mean", "low",
        "high"} with a 95 % interval. "score" is the expected drop of the target below doing
        nothing as a share of the best single intervention's, without a unit: 1 is the oracle, 0
        doing nothing. "avg_target" is in the target's unit.

    Raises:
        AcboError: an empty list of systems, two of one name, a system that is not an SCM, unknown
            names, numbers out of range, a backend that is not installed, an unreadable file, or an
            output that holds another comparison.
        RunError: workers died twice.
    """
    from acbo_fast import backend_maker
    from acbo_ref.arena.compare import evaluate as compare
    from acbo_ref.arena.play import is_policy
    from acbo_ref.training.checkpoint import shipped_policy

    given = dict(changes)
    methods = given.get("methods", settings.methods if settings is not None else ())
    if checkpoint is None and (not methods or any(map(is_policy, methods))):
        checkpoint = shipped_policy()
    if backend is not None:
        given["make_backend"] = backend_maker(backend)
    if systems is None:
        return compare(checkpoint, settings, **given)
    with tempfile.TemporaryDirectory() as folder:
        own = _files(systems, Path(folder))
        before = given.pop("scm_files", settings.scm_files if settings is not None else ())
        return compare(checkpoint, settings, **given, scm_files=[*before, *own])


def _files(systems: Sequence[SCM], folder: Path) -> list[Path]:
    """The systems as files, since workers and stored results know systems by their files."""
    from acbo_ref.errors import AcboError
    from acbo_ref.systems.files import save_scm
    from acbo_ref.systems.scm import SCM

    if isinstance(systems, SCM) or not len(systems):
        raise AcboError("systems is not a list of systems", "systems=[acbo.SCM(...), ...]")
    paths, names = [], set()
    for n, system in enumerate(systems):
        if not isinstance(system, SCM):
            raise AcboError(
                f"system {n + 1} is {type(system).__name__}, not acbo.SCM", "acbo.load_scm reads one from a file"
            )
        if system.name in names:
            raise AcboError(f"two systems are named {system.name!r}", "give each a name of its own")
        names.add(system.name)
        paths.append(folder / f"{n}.json")
        save_scm(system, paths[-1])
    return paths


def train(
    config: Config | str | Path,
    output: str | Path | None = None,
    backend: str | None = None,
    *,
    overrides: Sequence[str] = (),
    systems: Mapping[str, Sequence[SCM]] | None = None,
    on_iteration: Callable[[dict[str, Any]], None] | None = None,
) -> TrainResult:
    """Train a policy from its beginning.

        result = acbo.train("quick_test", "runs/mine")
        acbo.evaluate(result.checkpoint, suites=["simple"], quick=True)

    Args:
        config: a shipped name ("quick_test", "production", ...), a YAML file, or a Config.
        output: the run folder, for config.yaml, metrics.jsonl and checkpoints; None writes nothing
            and keeps nothing but the result.
        backend: "numba", "jax" or "ref"; default the fastest one installed.
        overrides: "KEY=VALUE" each, for example "total_episodes=64".
        systems: own systems by pool, trained on beside the random ones: {"plants": [plant]}.
        on_iteration: called with the record of each iteration (docs/metrics.md).

    Returns:
        what became of it: `episodes`, `iterations`, `seconds`, `score` (the recent training score,
        without a unit: 1 is the oracle, 0 doing nothing; None before the first is known),
        `checkpoint` (the file of the last one, None without an output) and `stopped` ("finished",
        or why it ended before).

    Raises:
        AcboError: an unknown or impossible config, a backend that is not installed, or an output
            that holds another run (`Trainer.resume` goes on with one).
        RunError: the loss stays non-finite, or nothing can be written.
    """
    from acbo_fast import backend_maker, default_backend
    from acbo_ref.config import Config, load_config, with_overrides
    from acbo_ref.training.trainer import Trainer

    loaded = with_overrides(config, overrides) if isinstance(config, Config) else load_config(config, overrides)
    trainer = Trainer(loaded, backend_maker(backend or default_backend())(loaded), output)
    for pool, members in (systems or {}).items():
        trainer.curriculum.scm_pool[pool] = list(members)
    return trainer.train(on_iteration)
