"""Rules of what to try next, on one outcome head, and policy heads that learnt it by GRPO.

    python benchmarks/acquisition.py train RUNS [EPISODES]     two policy heads on the network that
                                        ships, which stays as it is: RUNS/episode, RUNS/settle
    python benchmarks/acquisition.py compare [SYSTEMS [STEPS [CHECKPOINT ...]]]
    python benchmarks/acquisition.py learnt PICTURE.svg CHECKPOINT ...

`compare` plays the first validation systems of each suite (evaluation seed 1000) by

    constant c     the lowest mean - c errors
    left c         the same with c log(1 + left) / log 20
    harmless c     that, of what is not expected to do harm: `decision: outcome_head`
    final c        the lowest mean - c log(STEPS) errors: with c = 0.5 the method `policy_final`
    expected       expected improvement on the lowest mean (Jones et al. 1998)
    gradient       online knowledge gradient of independent levers (Ryzhov et al. 2012)
    thompson       a draw of each lever's expectation
    NAME           the policy head of a checkpoint

and prints score, first step, last three and what the recommendation lacks (simple regret), and for
checkpoints the paired difference in score to the best constant, with its 95 % interval.
`learnt` asks how many errors a policy head subtracts, as learnt: with each number of experiments
left, the constant whose bound takes the same variable most often. The head of the policy that ships
is untrained, and shows what was there before.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from acbo_fast import backend_maker
from acbo_ref.arena.metrics import MethodResults, summarise
from acbo_ref.arena.play import batch_task, draw_episodes, run_method
from acbo_ref.arena.suites import load_suite, observations_of
from acbo_ref.arrays import Array
from acbo_ref.config import load_config
from acbo_ref.policy.acquisition import DECISION_GRID, MOST_HARM, optimism_now
from acbo_ref.policy.inputs import HALF_WIDTH, Task
from acbo_ref.policy.screening import open_session
from acbo_ref.policy.session import AnySession, Decision
from acbo_ref.training.checkpoint import Checkpoint, load_checkpoint, shipped_policy
from acbo_ref.training.trainer import Trainer

SUITES = ("medium", "standardised", "cold", "nonlinear", "curved", "process", "real")
RULES = ("constant 0", "constant 0.5", "constant 0.75", "constant 1", "constant 1.5", "constant 2.5", "left 1.25",
         "harmless 1.25", "final 0.5", "expected", "gradient", "thompson")  # fmt: skip
SHIPPED_OPTIMISM = 1.25
# The network stays as it is: nothing but the policy head has a gradient.
FROZEN = (
    "policy.policy_into_trunk=false", "heads.parent_weight=0", "heads.edge_weight=0", "heads.outcome_weight=0",
    "heads.probes=0", "heads.commit_by_outcome_head=0", "decision=policy_head", "policy.fixed_std=0.2",
    "grpo.scale_rewards=batch", "grpo.learning_rate=1e-3", "grpo.entropy_coefficient=0",
    "grpo.entropy_coefficient_final=0", "grpo.ppo_epochs=2", "grpo.group_size=8", "grpo.minibatches=2",
)  # fmt: skip
# Groups of eight in both; a state's eight candidates are each read, so a batch has fewer episodes.
CREDITS = {
    "episode": ("grpo.credit=episode", "batch_size=192"),
    "settle": ("grpo.credit=settle", "batch_size=32", "grpo.budget=[5, 50]"),
}


class RuleSession:
    """A session that decides by a rule on what another one predicts."""

    def __init__(self, session: AnySession, rule: str, task: Task, steps: int) -> None:
        self._session, self._task, self._left, self._steps = session, task, steps, steps
        self._kind, *number = rule.split()
        self._number = float(number[0]) if number else 0.0
        count, width = task.valid.shape
        share = (DECISION_GRID + HALF_WIDTH) / (2 * HALF_WIDTH)
        values = task.low[:, :, None] + (task.high - task.low)[:, :, None] * share
        self._variable = np.tile(np.repeat(np.arange(width), share.size), (count, 1))
        self._value = values.reshape(count, -1)
        rows, counts = task.observations[np.arange(count), :, task.target], task.observation_mask
        self._usual = np.where(counts, rows, 0.0).sum(axis=1) / np.maximum(counts.sum(axis=1), 1)
        self._rng = np.random.default_rng(0)

    def observe(self, variable: Array, rows: Array) -> None:
        self._session.observe(variable, rows)

    def predict(self, variable: Array, value: Array) -> Any:
        return self._session.predict(variable, value)

    def decide(self, decision: str | None = None, optimism: float | None = None, **_: Any) -> Decision:
        """The next action; with `optimism` given, what the session itself settles on."""
        found = self._session.decide(decision=decision, optimism=optimism)
        if optimism is not None:
            return found
        self._left -= 1
        said = self._session.predict(self._variable, self._value)
        allowed = np.take_along_axis(self._task.manipulable, self._variable, axis=1)
        allowed = allowed & self._session.near(self._variable, self._value)
        score = self._score(said.mean, said.error, said.std, allowed)
        best = np.where(allowed, score, np.inf).argmin(axis=1)[:, None]
        mean, error, std, variable, value = (
            np.take_along_axis(a, best, axis=1)[:, 0]
            for a in (said.mean, said.error, said.std, self._variable, self._value)
        )
        return replace(found, variable=variable, value=value, outcome_mean=mean, outcome_error=error, outcome_std=std)

    def _score(self, mean: Array, error: Array, std: Array, allowed: Array) -> Array:
        if self._kind == "constant":
            return mean - self._number * error
        if self._kind == "final":
            return mean - self._number * np.log(self._steps) * error
        if self._kind in ("left", "harmless"):
            bound = mean - optimism_now(self._number, np.asarray(self._left)) * error
            harmless = allowed & (mean - self._usual[:, None] <= MOST_HARM * error)
            use = harmless.any(axis=1, keepdims=True) & (self._kind == "harmless")
            return np.where(use & ~harmless, np.inf, bound)
        if self._kind == "thompson":
            draws = self._rng.standard_normal(self._task.valid.shape)
            return mean + error * np.take_along_axis(draws, self._variable, axis=1)
        width = self._task.valid.shape[1]
        of_each = np.where(allowed, mean, np.inf).reshape(len(mean), width, -1).min(axis=2)
        low = np.sort(of_each, axis=1)
        best = low[:, :1]
        if self._kind == "expected":
            z = (best - mean) / error
            return -(best - mean) * norm.cdf(z) - error * norm.pdf(z)
        # how far a posterior mean moves by one measurement, against the best of the other levers
        moves = error**2 / std
        own = np.take_along_axis(of_each, self._variable, axis=1)
        other = np.where(own == best, low[:, 1:2] if width > 1 else best, best)
        z = -np.abs(mean - np.where(np.isfinite(other), other, best)) / moves
        return mean - self._left * moves * (norm.pdf(z) + z * norm.cdf(z))

    def near(self, variable: Array, value: Array) -> Array:
        return self._session.near(variable, value)


class RuleBackend:
    """A backend whose sessions decide by a rule."""

    def __init__(self, backend: Any, rule: str, steps: int) -> None:
        self._backend, self._rule, self._steps, self.config = backend, rule, steps, backend.config

    def session(self, state: Any, task: Task, capacity: int) -> RuleSession:
        return RuleSession(self._backend.session(state, task, capacity), self._rule, task, self._steps)


def train(runs: Path, episodes: int) -> None:
    """Policy heads by both credits, about as long as each other; `episodes` of credit episode."""
    start = load_checkpoint(shipped_policy())
    for name, changes in CREDITS.items():
        share = 1 if name == "episode" else 5
        config = load_config("foundation", [*FROZEN, *changes, f"total_episodes={episodes // share}"])
        trainer = Trainer(config, backend_maker("numba")(config), runs / name, parameters=start.state.params)
        print(name, trainer.train(lambda r: print(r["iteration"], r["recent_score"], file=sys.stderr)).checkpoint)


def gains(results: MethodResults) -> tuple[Array, Array]:
    """(N,) gain and the most that there is to gain, of each system."""
    gain = ((results.baseline[:, None] - results.expected) / results.spread[:, None]).sum(axis=1)
    return gain, results.expected.shape[1] * (results.baseline - results.best) / results.spread


def interval(a: MethodResults, b: MethodResults) -> tuple[float, float, float]:
    """a's score minus b's, and its 95 % interval, clusters of systems resampled."""
    difference, most = gains(a)[0] - gains(b)[0], gains(a)[1]
    clusters = [np.flatnonzero(a.cluster == c) for c in np.unique(a.cluster)]
    rng, found = np.random.default_rng(0), []
    for _ in range(2000):
        index = np.concatenate([clusters[i] for i in rng.integers(len(clusters), size=len(clusters))])
        found.append(difference[index].sum() / most[index].sum())
    low, high = np.quantile(found, (0.025, 0.975))
    return float(difference.sum() / most.sum()), float(low), float(high)


def compare(number: int, steps: int, checkpoints: dict[str, Checkpoint]) -> None:
    shipped = load_checkpoint(shipped_policy())
    backend = backend_maker("numba")(shipped.config)
    state = backend.from_host(shipped.state)
    keys = ("score", "score_first", "score_last3", "simple_regret")
    for suite in SUITES:
        few, rows = load_suite(suite, 1000).first(number), observations_of(suite)
        played: dict[str, MethodResults] = {}
        for rule in RULES:
            by_rule: Any = RuleBackend(backend, rule, steps)
            played[rule] = run_method(few, "outcome_head", 1000, rows, steps, by_rule, state)
        for name, checkpoint in checkpoints.items():
            other = backend_maker("numba")(checkpoint.config)
            found = run_method(few, "policy_head", 1000, rows, steps, other, other.from_host(checkpoint.state))
            played[name] = found
        numbers = {name: summarise(results) for name, results in played.items()}
        for name, found in numbers.items():
            print(f"| {suite} | {name} | " + " | ".join(f"{found[key]['mean']:.3f}" for key in keys) + " |", flush=True)
        best = max((r for r in RULES if r.startswith("constant")), key=lambda r: numbers[r]["score"]["mean"])
        for name in checkpoints:
            mean, low, high = interval(played[name], played[best])
            print(f"{suite}: {name} minus {best}: {mean:+.3f} [{low:+.3f}, {high:+.3f}]", flush=True)


def agreement(checkpoint: Checkpoint, constants: Array, number: int, steps: int) -> Array:
    """(steps, C): how often the bound with each constant takes the head's variable, over the first
    validation systems of all suites that the head itself plays.
    """
    backend = backend_maker("numba")(checkpoint.config)
    state, same, count = backend.from_host(checkpoint.state), np.zeros((steps, len(constants))), 0
    for suite in SUITES:
        episodes = draw_episodes(load_suite(suite, 1000).first(number), 1000, observations_of(suite), steps)
        task = batch_task(episodes.systems, episodes.observations)
        session = open_session(checkpoint.config.policy, task, lambda t: backend.session(state, t, steps))
        count += len(episodes.systems)
        for k in range(steps):
            decision = session.decide(decision="policy_head")
            for c, constant in enumerate(constants):
                bound = session.decide(decision="outcome_head", optimism=float(constant))
                same[k, c] += (bound.variable == decision.variable).sum()
            rows = np.zeros(task.valid.shape)
            for s, system in enumerate(episodes.systems):
                action = int(decision.variable[s]), float(decision.value[s])
                rows[s, : len(system.names)] = system.simulate(episodes.noise[s][k : k + 1], *action)[0]
            session.observe(decision.variable, rows)
    return same / count


def learnt(picture: Path, checkpoints: dict[str, Checkpoint], number: int = 32, steps: int = 20) -> None:
    """Prints and draws the constants that agree most, by experiments left."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    constants, left = np.arange(0, 3.01, 0.25), steps - 1 - np.arange(steps)
    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    rule = f"what ships: {SHIPPED_OPTIMISM} log(1 + n) / log 20"
    axes.plot(left, optimism_now(SHIPPED_OPTIMISM, left), color="#808080", label=rule)
    for name, checkpoint in checkpoints.items():
        found = agreement(checkpoint, constants, number, steps)
        best = constants[found.argmax(axis=1)]
        axes.plot(left, best, marker="o", label=f"policy head of {name}")
        for n, c, share in zip(left, best, found.max(axis=1), strict=True):
            print(f"| {name} | {n} | {c:.2f} | {share:.1%} |", flush=True)
    axes.set(xlabel="experiments left after this one, n", ylabel="standard errors subtracted")
    axes.set_xticks(range(0, steps, 2))
    axes.legend(frameon=False)
    figure.savefig(picture)


def main() -> None:
    if sys.argv[1] == "learnt":
        learnt(Path(sys.argv[2]), {Path(path).name: load_checkpoint(path) for path in sys.argv[3:]})
        return
    if sys.argv[1] == "train":
        train(Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 76800)
        return
    given = sys.argv[2:]
    number, steps = (int(given[n]) if len(given) > n else default for n, default in ((0, 128), (1, 20)))
    compare(number, steps, {Path(path).name: load_checkpoint(path) for path in given[2:]})


if __name__ == "__main__":
    main()
