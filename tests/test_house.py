"""The house: rooms form a ladder, backends mirror the reference, and every package is shipped."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from acbo_fast import available
from acbo_ref.config import GRAPH_FAMILIES
from acbo_ref.systems.graphs import GRAPHS

ROOT = Path(__file__).parent.parent
# From the ground up. A room imports only rooms above it in this list.
GROUND = ("version", "errors", "randomness", "arrays", "files", "settings", "config")
LADDER = (*GROUND, "systems", "policy", "grpo", "backend", "training", "arena", "campaign", "verify")
# Stricter than the ladder: what a room does without although it stands below.
DOES_WITHOUT = {"campaign": {"arena"}, "verify": {"arena", "campaign"}}
# ... but for this: a campaign may name who chooses.
YET = {("acbo_ref.campaign.methods", "acbo_ref.arena.baselines")}
TWINNED = ("systems", "policy", "grpo")


def imports(path: Path) -> set[str]:
    """Every acbo module that a file imports, inside functions and for types too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                exists = (ROOT / (whole.replace(".", "/") + ".py")).exists()
                found.add(whole if exists else str(node.module))
    return {name for name in found if name.split(".")[0] in ("acbo_ref", "acbo_fast", "acbo_cli")}


def modules(package: str) -> dict[str, Path]:
    """{dotted name: file} of every module of a package but its `__init__`s."""
    files = sorted((ROOT / package).rglob("*.py"))
    return {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in files if p.stem != "__init__"}


def room(module: str) -> str:
    return module.split(".")[1]


def test_no_room_imports_one_below_it():
    for module, path in modules("acbo_ref").items():
        own = LADDER.index(room(module))
        for other in imports(path):
            assert other.split(".")[0] == "acbo_ref", f"{module} imports {other}"
            if other == "acbo_ref":
                continue
            assert LADDER.index(room(other)) <= own, f"{module} imports {other}, which stands below it"
            kept_out = room(other) in DOES_WITHOUT.get(room(module), ())
            assert not kept_out or (module, other) in YET, f"{module} imports {other}"


@pytest.mark.parametrize("package", ["acbo_ref", "acbo_fast", "cli"])
def test_there_is_no_circle(package):
    names = modules(package)
    spelt = {name.replace("cli.", "acbo_cli.", 1) if package == "cli" else name: name for name in names}
    edges = {name: {spelt[i] for i in imports(path) if i in spelt} for name, path in names.items()}
    done: set[str] = set()
    while len(done) < len(edges):
        free = {name for name, needs in edges.items() if name not in done and needs <= done}
        assert free, f"a circle among {sorted(set(edges) - done)}"
        done |= free


def test_backends_do_not_know_each_other_nor_the_training_room():
    for module, path in modules("acbo_fast").items():
        for other in imports(path):
            if other.startswith("acbo_fast."):
                assert room(other) == room(module), f"{module} imports {other}"
            if other.startswith("acbo_ref."):
                assert LADDER.index(room(other)) <= LADDER.index("backend"), f"{module} imports {other}"


def test_every_room_says_what_it_is():
    for name in LADDER:
        init = ROOT / "acbo_ref" / name / "__init__.py"
        if init.exists():
            assert "import:" in (ast.get_docstring(ast.parse(init.read_text())) or ""), f"{init} does not say"


def test_graph_families_are_those_of_the_config():
    assert tuple(GRAPHS) == GRAPH_FAMILIES


def test_every_package_is_shipped():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(p.parent.relative_to(ROOT).parts)
        for top in ("acbo", "acbo_ref", "acbo_fast")
        for p in (ROOT / top).rglob("__init__.py")
    }
    assert set(listed) == found | {"acbo_cli", "acbo_configs"} and len(listed) == len(set(listed))


# -------------------------------------------------------------------------------------------- twins

# Public names of the reference that a backend does not have again, by module, and why. "*" is the
# whole module.
TAKEN = "a backend takes the reference's own: it runs once, on the host, or is a table of what is summed"
RECORD = "records are shared"
AUTODIFF = "JAX differentiates"
FUSED = "part of a fused kernel"
METHOD = "a method here, which keeps its arrays in the workspace"
FIXED = (
    "rows live in arrays of fixed capacity, so that nothing is compiled again: functions of a state instead of a class"
)
WITHOUT: dict[str, dict[str, dict[str, str]]] = {
    "both": {
        "systems.batch": dict.fromkeys(
            ("antithetic_noise", "total_effects", "observational_moments", "expected_target", "oracle", "gain_unit",
             "select", "is_linear", "target_parents"), TAKEN),
        "systems.scm": {"*": TAKEN},
        "systems.functional": {"*": TAKEN},
        "systems.files": {"*": TAKEN},
        "systems.graphs": {"*": TAKEN},
        "systems.prior": {"*": TAKEN},
        "systems.curves": {"*": TAKEN},
        "policy.inputs": dict.fromkeys(("to_domain", "to_standard", "set_mask"), TAKEN)
                         | {"observation_channels": "part of Reading or reading.py"},
        "policy.session": {"AnySession": "what any backend's session does", "raw_prediction": TAKEN, "or_nothing": TAKEN},
        "policy.screening": {"*": "wraps a session of any backend"},
        "policy.exogenous": {"*": "wraps a session of any backend"},
        "policy.extrapolation": {"*": TAKEN},
        "policy.moments": {"about_the_mean": "the same code for every kind of array"},
        "policy.network": dict.fromkeys(
            ("reads_pairs", "num_channels", "evidence_size", "acquisition_size", "state_size", "parameter_shapes",
             "init_params"), TAKEN),
        "grpo.credit": {"*": TAKEN},
        "grpo.noise": {"*": TAKEN},
        "grpo.loss": dict.fromkeys(
            ("loss_terms", "total_loss", "zero_std_groups", "label_weights", "edge_mask"), TAKEN),
        "grpo.optim": {"init_state": TAKEN, "learning_rate": TAKEN, "entropy_coefficient": TAKEN,
                       "clip_by_global_norm": "part of guarded_step", "parameter_change": "part of update"},
        "grpo.update": dict.fromkeys(("loss_weights", "minibatch_order", "loss_batch"), TAKEN),
    },
    "jax": {
        "policy.layers": {"accumulate": AUTODIFF, "split_heads": "heads stand after tokens here",
                          "merge_heads": "heads stand after tokens here", "project_qkv": "part of a block",
                          "attention_forward": "part of a block", "sigmoid": "JAX's own", "softplus": "JAX's own",
                          "log_softmax": "JAX's own", "one_hot": "gathers, and JAX scatters"},
        "policy.row_trunk": {"block_forward": "variable_block and row_block"},
        "policy.reading": {"RowReading": FIXED, "PairReading": FIXED},
        "policy.decoder": {"RowDecoder": FIXED, "PairDecoder": FIXED, "open_decoder": FIXED},
        "policy.acquisition": dict.fromkeys(("acquisition_features", "optimism_now", "optimism_for_final", "hopeful"), TAKEN),
        "policy.heads": {"policy_forward": "policy_head", "parent_forward": "parents",
                         "state_forward": "outcome_state"},
        "grpo.rollout": {"observe": "part of the compiled rollout", "look": "read, a method", "peek": METHOD,
                         "information_gain": METHOD, "settled_outcome": METHOD, "acquisition": METHOD},
        "grpo.update": {"group_advantages": "part of the compiled update",
                        "minibatch": "part of the compiled update",
                        "loss_and_gradient": "loss_of_minibatch, which JAX differentiates"},
    },
    "numba": {
        "policy.inputs": dict.fromkeys(("standard_units", "deviations", "row_channels", "start_channels"), TAKEN),
        "policy.evidence": dict.fromkeys(("slope_features", "centre_feature", "spread_feature"), FUSED)
                           | {"ordered_effect": TAKEN},
        "policy.moments": {"centred": "a scalar function of evidence.py", "spreads": "a scalar function of evidence.py"},
        "policy.pairs": {"background": TAKEN},
        "policy.reading": {"RowReading": TAKEN},
        "policy.layers": {
            "accumulate": "gradients are written, not added", "linear_forward": "product and add_bias",
            "linear_backward": "weight_gradient, column_sums and product",
            "soft_bound_forward": FUSED, "soft_bound_backward": FUSED, "split_heads": "attention reads tokens in place",
            "merge_heads": "attention reads tokens in place", "project_qkv": METHOD, "attention_forward": METHOD,
            "attention_backward": METHOD, "mlp_forward": METHOD, "mlp_backward": METHOD, "one_hot": "indices, in place",
            "sigmoid": "in kernels.py, beside the exponential it is made of"},
        "policy.network": dict.fromkeys(("forward", "backward"), METHOD),
        "policy.row_trunk": dict.fromkeys(
            ("block_forward", "block_backward", "trunk_forward", "trunk_backward"), METHOD),
        "policy.pair_trunk": dict.fromkeys(
            ("block_forward", "block_backward", "trunk_forward", "trunk_backward"), METHOD),
        "policy.heads": {"heads_forward": METHOD, "heads_backward": METHOD, "policy_forward": METHOD,
                         "policy_backward": METHOD, "parent_forward": METHOD, "state_forward": METHOD,
                         "state_backward": METHOD, "outcome_forward": "outcome_head",
                         "outcome_backward": FUSED, "edge_forward": "edge_logits, a method of the trunk",
                         "edge_backward": METHOD},
        "policy.acquisition": {"predict_on_grid": "GridPredictor", "lowest_predicted": TAKEN,
                               "acquisition_features": TAKEN, "optimism_now": TAKEN,
                               "optimism_for_final": TAKEN, "hopeful": TAKEN},
        "grpo.rollout": {"look": METHOD, "peek": METHOD, "settled_outcome": METHOD, "acquisition": TAKEN},
        "grpo.update": {"group_advantages": "part of update"},
        "systems.batch": {"simulate": "simulate_row, inlined, and simulate_observations", "term_values": "term_value",
                          "causes": TAKEN},
        "policy.local": dict.fromkeys(("no_own_rows", "own_row_added", "own_outcomes"), TAKEN)
                        | {"local_forward": "prepare and weigh", "local_backward": "local_gradient and finish",
                           "predict_forward": "predict", "predict_backward": "local_gradient and finish"},
        "grpo.loss": {
            "parent_entropy": "parent_entropies", "log_prob_forward": "normal_log_density and log_softmax",
            "log_prob_backward": FUSED, "clipped_objective_forward": "clipped_objective",
            "clipped_objective_backward": FUSED, "entropy_forward": "entropy", "entropy_backward": FUSED,
            "parent_loss_forward": FUSED, "edge_loss_forward": "edge_losses",
            "outcome_loss_forward": "outcome_loss", "outcome_loss_backward": FUSED,
            "loss_forward": "loss_and_gradient", "loss_backward": "loss_and_gradient"},
        "grpo.optim": {"adam_step": "guarded_step, in one pass"},
    },
}  # fmt: skip
# Parameters that a twin does not have under the same name, by "module.name", and why.
OTHER_PARAMETERS = {
    "jax": {
        "policy.inputs.standard_units": "arrays in place of a Task, which lives on the host",
        "policy.reading.open_reading": "what is known is given as arrays on the device",
        "grpo.rollout.judge": "draws are given with the units they are judged in",
        "grpo.rollout.draw_candidates": "what the policy head says, array by array",
        "grpo.loss.log_prob_forward": "what the policy head says, array by array",
        "policy.local.own_row_added": "arrays on the device in place of a Task",
    },
    "numba": {
        "policy.decoder.RowDecoder": "the network knows its config",
        "policy.decoder.PairDecoder": "the network knows its config",
        "policy.decoder.open_decoder": "the network knows its config",
        "policy.pair_trunk.triangle_backward": "the products over a third variable are a kernel of their own",
        "grpo.rollout.judge": "a kernel takes arrays, one by one",
        "grpo.rollout.draw_candidates": "a kernel takes arrays, one by one",
        "grpo.rollout.information_gain": "the network has its config",
        "grpo.optim.global_norm": "parameters are one flat array",
        "grpo.update.minibatch": "inputs and data in place of trajectories",
        "policy.layers.layer_norm_forward": "a kernel takes arrays, one by one",
        "policy.layers.layer_norm_backward": "a kernel takes arrays, one by one",
        "policy.layers.gelu_forward": "works in place, and adds the bias before it",
        "policy.layers.gelu_backward": "works in place",
        "policy.layers.attend_forward": "keys and values are one array",
        "policy.layers.attend_backward": "keys and values are one array",
    },
}


def public(module) -> dict[str, object]:
    """Public functions and classes that a module defines itself."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", None) == module.__name__
    }


def defined_in(module, name: str) -> bool:
    """Whether a module defines a name itself, rather than import it."""
    value = getattr(module, name, None)
    return getattr(getattr(value, "py_func", value), "__module__", None) == module.__name__


def parameters(function) -> set[str]:
    function = getattr(function, "py_func", function)  # Numba's
    if inspect.isclass(function):
        function = function.__init__
    return set(inspect.signature(function).parameters) - {"self"}


def twin_names(backend: str, name: str) -> list[str]:
    """What a function of the reference may be called in a backend: JAX has f where the reference
    has f_forward.
    """
    return [name, name.removesuffix("_forward")] if backend == "jax" else [name]


def is_record(value: object) -> bool:
    return isinstance(value, type) and (issubclass(value, tuple) or hasattr(value, "__dataclass_fields__"))


@pytest.mark.parametrize("backend", [name for name in available() if name != "ref"])
def test_a_backend_mirrors_the_reference(backend):
    used, wrong = set(), []
    for module, path in modules("acbo_ref").items():
        short = module.removeprefix("acbo_ref.")
        without = WITHOUT["both"].get(short, {}) | WITHOUT.get(backend, {}).get(short, {})
        if room(module) not in TWINNED or "*" in without:
            continue
        twin = import_module(f"acbo_fast.{backend}.{short}")
        assert f"Twin of {path.relative_to(ROOT)}" in (twin.__doc__ or ""), f"{twin.__name__} does not name its twin"
        for name, value in public(import_module(module)).items():
            key = f"{short}.{name}"
            names = [n for n in twin_names(backend, name) if defined_in(twin, n)]
            derivative = backend == "jax" and name.endswith("backward")
            if name in without and names:
                wrong.append(f"{key} is listed as missing, and {twin.__name__} has it")
            if name in without or derivative or (is_record(value) and not names):
                continue
            if not names:
                wrong.append(f"{twin.__name__} has no {name}")
                continue
            other = parameters(value) - parameters(getattr(twin, names[0])) if not is_record(value) else set()
            listed = key in OTHER_PARAMETERS.get(backend, {})
            used |= {key} if listed else set()
            if listed and not other:
                wrong.append(f"{key} is listed with other parameters, and has the same")
            if other and not listed:
                wrong.append(f"{twin.__name__}.{names[0]} lacks {sorted(other)}")
    assert not wrong, "\n".join(wrong)
    assert used == set(OTHER_PARAMETERS.get(backend, {})), set(OTHER_PARAMETERS.get(backend, {})) - used


OPTIONAL = ("sklearn", "optuna", "matplotlib", "gymnasium", "dask", "distributed", "jax", "numba", "openpyxl")


def test_what_is_optional_is_imported_when_it_is_used():
    """Without the extras all else works, an evaluation by the default methods included."""
    code = f"""
import sys
for name in {OPTIONAL!r}:
    sys.modules[name] = None  # importing it raises
from acbo_cli.main import cli
for words in (["--help"], ["info"], ["evaluate", "--help"], ["analyze", "--help"], ["campaign", "--help"]):
    try:
        cli(words)
    except SystemExit as stop:
        assert not stop.code, (words, stop.code)
from acbo_ref import evaluate
from acbo_ref.training.checkpoint import shipped_policy
evaluate(shipped_policy(), suites=["seed"], quick=True, interventions=1)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [ROOT, ROOT / ".ci" / "packages"]))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
