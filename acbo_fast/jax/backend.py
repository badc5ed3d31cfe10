"""The JAX backend object: compiled once a shape, float32 unless the config asks for float64.

Training runs on a mesh of devices (mesh.py), of which there is one unless more are asked for; deciding runs on one. 64-bit mode
is entered around this backend's own calls and left again, so the user's other JAX code keeps its own setting. The persistent
compilation cache is switched on only if the user has not chosen one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from acbo_fast.jax import grpo, optim, policy
from acbo_fast.jax import rollout as episodes
from acbo_fast.jax.mesh import CUT, EPISODES, WHOLE, check_divides, episode_mesh, place
from acbo_fast.jax.scm import to_arrays
from acbo_ref import policy as reference_policy
from acbo_ref.backend import Hyper
from acbo_ref.config import Config
from acbo_ref.history import Task, standard_units, to_domain
from acbo_ref.optim import OptimiserState, init_state
from acbo_ref.rollout import SURROGATE_GRID, Decision, EpisodeNoise, commit_by_surrogate
from acbo_ref.scm import SCMBatch

# Decisions outside of training are compiled for these sizes: rows and capacity are rounded up to a multiple.
ROW_BUCKET = 64

# How often each function was traced, by name: a test that nothing is compiled twice reads it.
TRACES: dict[str, int] = {}


def use_compilation_cache() -> None:
    """Keep compiled programs on disk between runs, in $XDG_CACHE_HOME/acbo/jax, unless the user has set a folder."""
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "acbo" / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _traced(name: str) -> None:
    TRACES[name] = TRACES.get(name, 0) + 1


class JaxBackend:
    """See acbo_ref.backend.Backend.

    Args:
        devices: to train on, of each process; None for all there are.
    """

    name = "jax"

    def __init__(self, config: Config, devices: int | None = 1) -> None:
        use_compilation_cache()
        self.config = config
        self.dtype = config.dtype or "float32"
        self._mesh = episode_mesh(devices)
        if self._mesh.size > 1:
            check_divides(config, self._mesh.size)
        on_mesh = partial(jax.shard_map, mesh=self._mesh, check_vma=False)
        parts: Any = [WHOLE if name == "fixed_std" else CUT for name in episodes.Trajectories._fields]
        self._rollout = jax.jit(
            on_mesh(
                partial(_rollout, config),
                in_specs=(WHOLE, CUT, CUT, CUT, CUT, WHOLE),
                out_specs=episodes.Trajectories(*parts),
            ),
            out_shardings=NamedSharding(self._mesh, WHOLE),
        )
        self._update = jax.jit(
            on_mesh(partial(_update, config, self._mesh.size), in_specs=WHOLE, out_specs=WHOLE), donate_argnums=0
        )

    @contextmanager
    def _precision(self) -> Iterator[None]:
        """64-bit mode for this backend's own calls only; products at full precision on every device."""
        with jax.enable_x64(self.dtype == "float64"), jax.default_matmul_precision("highest"):
            yield

    def init_state(self) -> optim.State:
        params = reference_policy.init_params(self.config.policy, self.config.seed)
        return self.from_host(init_state(params))

    def from_host(self, state: OptimiserState) -> optim.State:
        with self._precision():

            def put(arrays: dict[str, Any]) -> policy.Params:
                return {name: self._place(value, WHOLE) for name, value in arrays.items()}

            return optim.State(
                put(state.params),
                put(state.first_moment),
                put(state.second_moment),
                self._place(np.int32(state.step), WHOLE),
            )

    def _place(self, value: Any, spec: PartitionSpec) -> jax.Array:
        """On the mesh, floats in this backend's dtype."""
        value = np.asarray(value)
        dtype = self.dtype if value.dtype.kind == "f" else jax.dtypes.canonicalize_dtype(value.dtype)
        return place(self._mesh, value.astype(dtype), spec)

    def to_host(self, state: optim.State) -> OptimiserState:
        parts = (state.params, state.first_moment, state.second_moment)
        order = reference_policy.parameter_shapes(self.config.policy)
        first, second, third = ({name: np.array(part[name]) for name in order} for part in parts)
        return OptimiserState(first, second, third, int(state.step))

    def rollout(
        self, state: optim.State, problems: SCMBatch, observation_mask: Any, noise: EpisodeNoise, fixed_std: float
    ) -> episodes.Trajectories:
        by_surrogate = commit_by_surrogate(self.config.batch_size, self.config.surrogate.commit_share)
        with self._precision():
            result: episodes.Trajectories = jax.block_until_ready(
                self._rollout(
                    state.params,
                    jax.tree.map(partial(self._place, spec=CUT), to_arrays(problems, self.dtype)),
                    self._place(observation_mask, CUT),
                    episodes.Noise(*(self._place(getattr(noise, f), CUT) for f in episodes.Noise._fields)),
                    self._place(by_surrogate, CUT),
                    self._place(float(fixed_std), WHOLE),
                )
            )
            return result

    def update(
        self, state: optim.State, trajectories: episodes.Trajectories, order: Any, hyper: Hyper
    ) -> tuple[optim.State, dict[str, float]]:
        """The state given is donated: it must not be used afterwards."""
        with self._precision():
            state, diagnostics = self._update(
                state,
                trajectories,
                self._place(np.asarray(order, np.int32), WHOLE),
                self._place(float(hyper.learning_rate), WHOLE),
                self._place(float(hyper.entropy_coefficient), WHOLE),
            )
            return state, {key: float(value) for key, value in diagnostics.items()}

    def session(self, state: optim.State, task: Task, capacity: int) -> Session:
        return Session(self, state, task, capacity)

    def piece(self, name: str, *arguments: Any) -> Any:
        with self._precision():
            return PIECES[name](self, *arguments)

    def _put(self, value: Any) -> Any:
        """Arrays (also in dicts and dataclasses' tuples) to the device, floats in this backend's dtype."""
        if isinstance(value, dict):
            return {name: self._put(part) for name, part in value.items()}
        if isinstance(value, np.ndarray):
            return jnp.asarray(value, self.dtype) if value.dtype.kind == "f" else jnp.asarray(value)
        return value


def _rollout(config: Config, *arguments: Any) -> episodes.Trajectories:
    _traced("rollout")
    params, *rest = arguments
    return episodes.rollout(params, config, *rest)


def _update(
    config: Config,
    devices: int,
    state: optim.State,
    trajectories: episodes.Trajectories,
    order: jax.Array,
    learning_rate: jax.Array,
    entropy_coefficient: jax.Array,
) -> tuple[optim.State, dict[str, jax.Array]]:
    """All epochs and minibatches as one scan, on one device of a mesh; see acbo_ref.backend.update.

    Each device takes its share of a minibatch. They are equally large, so the mean of their means is the mean.
    """
    _traced("update")
    t, settings = trajectories, config.grpo
    never = (order[0, 0] < 0).astype(jnp.int32)
    advantage = grpo.advantages(t.rewards, settings.scale_rewards)
    whole = grpo.Batch(
        t.variable,
        t.value,
        t.log_prob,
        advantage,
        t.draw_variable,
        t.draw_value,
        t.draw_outcome,
        t.draw_variance,
        t.parents,
        t.parent_mask,
    )
    high = settings.clip_ratio if settings.clip_ratio_high is None else settings.clip_ratio_high

    def loss(params: policy.Params, inputs: policy.Inputs, batch: grpo.Batch) -> tuple[jax.Array, Any]:
        outputs = policy.forward(policy.with_buffers(params, never), config.policy, inputs, t.variable.shape[1])
        return grpo.loss(
            params, outputs, batch, t.fixed_std, entropy_coefficient, settings.clip_ratio, high,
            config.surrogate.parent_weight, config.surrogate.outcome_weight,
        )  # fmt: skip

    def step(state: optim.State, index: jax.Array) -> tuple[optim.State, dict[str, jax.Array]]:
        inputs, batch = jax.tree.map(lambda a: a[index], (t.inputs, whole))
        valued = jax.value_and_grad(loss, has_aux=True)(state.params, inputs, batch)
        (value, terms), grads = jax.lax.pmean(valued, EPISODES)
        state, norm, skipped = optim.guarded_step(state, grads, value, learning_rate, settings.gradient_clip)
        return state, {"loss": value, **terms, "gradient_norm": norm, "skipped_steps": skipped}

    steps = order.shape[0] * settings.minibatches
    own = order.reshape(steps, devices, -1)[:, jax.lax.axis_index(EPISODES)]
    final, records = jax.lax.scan(step, state, own)
    diagnostics = {key: values.mean() for key, values in records.items() if key != "skipped_steps"}
    change = jax.tree.map(lambda after, before: after - before, final.params, state.params)
    diagnostics["parameter_change"] = optim.global_norm(change)
    diagnostics["skipped_steps"] = records["skipped_steps"].sum()
    return final, diagnostics


class Session:
    """See acbo_ref.rollout.Session. Rows are padded to fixed sizes, so nothing is recompiled as they arrive.

    Raw numbers meet float32 only after they were mapped to standard units, in float64 on the host by the reference's own
    `standard_units`: the user's units may be far from 1.
    """

    def __init__(self, backend: JaxBackend, state: optim.State, task: Task, capacity: int) -> None:
        self._backend, self._params, self._network = backend, state.params, backend.config.policy
        self._task, self._capacity, self._step = task, capacity, 0
        self._location, self._scale = standard_units(task)
        count, num_obs, width = task.observations.shape
        extra = -num_obs % ROW_BUCKET or (ROW_BUCKET if num_obs == 0 else 0)
        mask = np.pad(task.observation_mask, ((0, 0), (0, extra)))
        standard = (task.observations - self._location[:, None]) / self._scale[:, None]
        standard = np.where(task.valid[:, None] & task.observation_mask[:, :, None], standard, 0.0)
        standard = np.pad(standard, ((0, 0), (0, extra), (0, 0)))
        rounded = -(-max(capacity, 1) // ROW_BUCKET) * ROW_BUCKET
        with backend._precision():
            self._known = episodes.Known(*map(jnp.asarray, (mask, task.is_target, task.valid)))
            self._grid = jnp.asarray(SURROGATE_GRID, backend.dtype)
            self._no_gumbel = jnp.zeros((count, width), backend.dtype)
            self._no_normal = jnp.zeros(count, backend.dtype)
            self._read = episodes.open_session(
                self._params, self._network, standard.astype(backend.dtype), self._known, rounded
            )

    def observe(self, variable: Any, rows: Any) -> None:
        """Read the measured rows (E, V), raw units, of interventions on `variable` (E,)."""
        if self._step == self._capacity:
            raise ValueError(f"the session was opened for {self._capacity} interventions")
        self._step += 1
        standard = np.where(self._task.valid, (rows - self._location) / self._scale, 0.0)
        with self._backend._precision():
            self._read = episodes.observe(
                self._params,
                self._network,
                self._known,
                self._read,
                np.int32(self._step),
                np.asarray(variable, np.int32),
                standard.astype(self._backend.dtype),
            )

    def decide(
        self,
        gumbel: Any = None,
        normal: Any = None,
        decision: str | None = None,
        optimism: float | None = None,
        allowed: Any = None,
    ) -> Decision:
        """The next action of each system; see acbo_ref.rollout.Session.decide."""
        dtype, config = self._backend.dtype, self._backend.config
        manipulable = self._task.manipulable
        with self._backend._precision():
            decided = episodes.decide(
                self._params,
                self._network,
                self._known,
                self._read.row,
                self._read.h,
                self._no_gumbel if gumbel is None else np.asarray(gumbel, dtype),
                self._no_normal if normal is None else np.asarray(normal, dtype),
                self._grid,
                np.asarray(config.optimism if optimism is None else optimism, dtype),
                manipulable if allowed is None else manipulable & allowed,
                (decision or config.decision) == "surrogate",
            )
            variable, standard, probability, parent_probability, mean, error, std = jax.device_get(tuple(decided))
        each, task = np.arange(len(variable)), self._task
        location, scale = self._location[each, task.target], self._scale[each, task.target]
        return Decision(
            variable=variable,
            value=to_domain(task, self._location, self._scale, variable, standard.astype(float)),
            probability=probability,
            parent_probability=parent_probability,
            outcome_mean=location + scale * mean,
            outcome_error=scale * error,
            outcome_std=scale * std,
        )


# ------------------------------------------------------------------------------------- single functions, to compare


def _piece(function: Any) -> Any:
    """A traced function of arrays as NumPy in, NumPy out."""

    def call(backend: JaxBackend, *arguments: Any) -> Any:
        return np.asarray(function(*(backend._put(a) for a in arguments)))

    return call


def _outputs(backend: JaxBackend, outputs: Any) -> policy.Outputs:
    return policy.Outputs(*(backend._put(getattr(outputs, name)) for name in policy.Outputs._fields))


def _inputs(backend: JaxBackend, inputs: Any) -> policy.Inputs:
    return policy.Inputs(*(backend._put(getattr(inputs, name)) for name in policy.Inputs._fields))


def _forward_piece(backend: JaxBackend, params: Any, inputs: Any, num_decisions: int) -> reference_policy.PolicyOutputs:
    outputs = policy.forward(backend._put(params), backend.config.policy, _inputs(backend, inputs), num_decisions)
    arrays: dict[str, Any] = {name: None if a is None else np.asarray(a) for name, a in outputs._asdict().items()}
    return reference_policy.PolicyOutputs(**arrays)


def _gradient_piece(backend: JaxBackend, params: Any, inputs: Any, batch: Any, weights: Any) -> Any:
    arrays = _inputs(backend, inputs)
    data = grpo.Batch(*(backend._put(getattr(batch, name)) for name in grpo.Batch._fields))
    number = partial(jnp.asarray, dtype=backend.dtype)
    never = jnp.zeros((), jnp.int32)

    def loss(params: policy.Params) -> Any:
        buffered = policy.with_buffers(params, never)  # the path that training takes
        outputs = policy.forward(buffered, backend.config.policy, arrays, data.variable.shape[1])
        return grpo.loss(
            params, outputs, data, number(batch.fixed_std), number(weights.entropy), weights.clip_low, weights.clip_high,
            weights.parent, weights.outcome,
        )  # fmt: skip

    (value, terms), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(backend._put(params))
    return float(value), {k: float(v) for k, v in terms.items()}, {k: np.asarray(v) for k, v in grads.items()}


PIECES: dict[str, Any] = {
    "linear": _piece(policy.linear),
    "layer_norm": _piece(policy.layer_norm),
    "gelu": _piece(policy.gelu),
    "soft_bound": _piece(policy.soft_bound),
    "mlp": _piece(policy.mlp),
    # the reference has heads before tokens, (..., H, N, d); here they stand after
    "attend": _piece(
        lambda q, k, v, mask: policy.attend(
            q.swapaxes(-2, -3), k.swapaxes(-2, -3), v.swapaxes(-2, -3), mask[..., 0, :, :]
        ).swapaxes(-2, -3)
    ),
    "log_prob": lambda backend, outputs, *rest: _piece(grpo.log_prob)(backend, _outputs(backend, outputs), *rest),
    "entropy": _piece(grpo.entropy),
    "parent_loss": _piece(grpo.parent_loss),
    "parent_entropy": _piece(grpo.parent_entropy),
    "outcome_loss": _piece(grpo.outcome_loss),
    "surrogate": _piece(grpo.surrogate),
    "advantages": _piece(grpo.advantages),
    "forward": _forward_piece,
    "loss_and_gradient": _gradient_piece,
}
