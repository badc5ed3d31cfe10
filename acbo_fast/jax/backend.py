"""The JAX backend object: compiled once a shape, float32 unless the config asks for float64.

Training runs on a mesh of devices (mesh.py), of which there is one unless more are asked for;
deciding runs on one. 64-bit mode is entered around this backend's own calls and left again, so the
user's other JAX code keeps its own setting. The persistent compilation cache is switched on only if
the user has not chosen one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec
from numpy.typing import NDArray

from acbo_fast.jax.grpo.rollout import rollout
from acbo_fast.jax.grpo.update import update
from acbo_fast.jax.mesh import CUT, WHOLE, check_divides, episode_mesh, place
from acbo_fast.jax.policy.session import Session
from acbo_fast.jax.systems.batch import to_arrays
from acbo_ref.config import Config
from acbo_ref.grpo.noise import EpisodeNoise
from acbo_ref.grpo.optim import OptimiserState, init_state
from acbo_ref.grpo.rollout import Trajectories
from acbo_ref.grpo.update import ScheduledCoefficients
from acbo_ref.policy.inputs import Task
from acbo_ref.policy.network import init_params, parameter_shapes
from acbo_ref.systems.batch import SCMBatch

# How often each function was traced, by name: a test that nothing is compiled twice reads it.
TRACES: dict[str, int] = {}


def use_compilation_cache() -> None:
    """Keep compiled programs on disk between runs, in $XDG_CACHE_HOME/acbo/jax, unless the user has
    set a folder.
    """
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "acbo" / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


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
        self.mesh = episode_mesh(devices)
        if self.mesh.size > 1:
            check_divides(config, self.mesh.size)
        on_mesh = partial(jax.shard_map, mesh=self.mesh, check_vma=False)
        parts: Any = [WHOLE if name == "fixed_std" else CUT for name in Trajectories._fields]
        self._rollout = jax.jit(
            on_mesh(
                partial(traced_rollout, config),
                in_specs=(WHOLE, CUT, CUT, CUT, WHOLE),
                out_specs=Trajectories(*parts),
            ),
            out_shardings=NamedSharding(self.mesh, WHOLE),
        )
        self.compiled_update = jax.jit(
            on_mesh(partial(traced_update, config, self.mesh.size), in_specs=WHOLE, out_specs=WHOLE),
            donate_argnums=0,
        )

    @contextmanager
    def precision(self) -> Iterator[None]:
        """64-bit mode for this backend's own calls only; products at full precision on every
        device.
        """
        with jax.enable_x64(self.dtype == "float64"), jax.default_matmul_precision("highest"):
            yield

    def init_state(self) -> OptimiserState[Array]:
        return self.from_host(init_state(init_params(self.config.policy, self.config.seed)))

    def from_host(self, state: OptimiserState[NDArray[Any]]) -> OptimiserState[Array]:
        with self.precision():
            return self._placed(state._replace(step=np.int32(state.step)), WHOLE)

    def place(self, value: Any, spec: PartitionSpec) -> Array:
        """On the mesh, floats in this backend's dtype."""
        value = np.asarray(value)
        dtype = self.dtype if value.dtype.kind == "f" else jax.dtypes.canonicalize_dtype(value.dtype)
        return place(self.mesh, value.astype(dtype), spec)

    def _placed(self, record: Any, spec: PartitionSpec) -> Any:
        """Every array of a record on the mesh."""
        return jax.tree.map(partial(self.place, spec=spec), record)

    def to_host(self, state: OptimiserState[Array]) -> OptimiserState[NDArray[Any]]:
        order = parameter_shapes(self.config.policy)
        first, second, third = ({name: np.array(part[name]) for name in order} for part in state[:3])
        return OptimiserState(first, second, third, int(state.step))

    def rollout(
        self,
        state: OptimiserState[Array],
        systems: SCMBatch[NDArray[Any]],
        observation_mask: NDArray[Any],
        noise: EpisodeNoise[NDArray[Any]],
        fixed_std: float,
    ) -> Trajectories[Array]:
        with self.precision():
            result: Trajectories[Array] = jax.block_until_ready(
                self._rollout(
                    state.params,
                    self._placed(to_arrays(systems, self.dtype), CUT),
                    self.place(observation_mask, CUT),
                    self._placed(noise, CUT),
                    self.place(float(fixed_std), WHOLE),
                )
            )
            return result

    def update(
        self,
        state: OptimiserState[Array],
        trajectories: Trajectories[Array],
        order: NDArray[Any],
        scheduled: ScheduledCoefficients,
    ) -> tuple[OptimiserState[Array], dict[str, float]]:
        """The state given is donated: it must not be used afterwards."""
        with self.precision():
            state, diagnostics = self.compiled_update(
                state,
                trajectories,
                self.place(np.asarray(order, np.int32), WHOLE),
                self._placed(ScheduledCoefficients(*map(float, scheduled)), WHOLE),
            )
            return state, {key: float(value) for key, value in diagnostics.items()}

    def session(self, state: OptimiserState[Array], task: Task, capacity: int, budget: int | None = None) -> Session:
        return Session(state.params, self.config, task, capacity, self.dtype, self.precision, budget)


def _count(name: str) -> None:
    TRACES[name] = TRACES.get(name, 0) + 1


def traced_rollout(
    config: Config,
    params: dict[str, Array],
    systems: SCMBatch[Array],
    observation_mask: Array,
    noise: EpisodeNoise[Array],
    fixed_std: Array,
) -> Trajectories[Array]:
    """What is compiled for a rollout."""
    _count("rollout")
    return rollout(params, config, systems, observation_mask, noise, fixed_std)


def traced_update(
    config: Config,
    devices: int,
    state: OptimiserState[Array],
    trajectories: Trajectories[Array],
    order: Array,
    scheduled: ScheduledCoefficients,
) -> tuple[OptimiserState[Array], dict[str, Array]]:
    """What is compiled for an update."""
    _count("update")
    return update(state, config, trajectories, order, scheduled, devices)
