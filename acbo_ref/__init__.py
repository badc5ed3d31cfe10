"""acbo_ref: the reference implementation of amortised causal Bayesian optimisation. NumPy only; this is the specification.

Reading order: config, scm, graphs, curriculum, history, layers, policy, grpo, optim, rollout, backend, train, suites,
baselines, metrics, evaluation, arena, checkpoint, tables, journal, records, calibration, campaign,
verify.

Names are loaded on first use, so that `import acbo_ref` and `acbo --help` stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS = {
    "AcboError": "errors",
    "Campaign": "campaign",
    "Config": "config",
    "FunctionalSCM": "scm",
    "ReferenceBackend": "backend",
    "SCM": "scm",
    "Sine": "scm",
    "Trainer": "train",
    "Variable": "scm",
    "evaluate": "arena",
    "load_campaign": "campaign",
    "load_checkpoint": "checkpoint",
    "load_config": "config",
    "load_scm": "scm_files",
    "save_scm": "scm_files",
}

if TYPE_CHECKING:
    from acbo_ref.arena import evaluate as evaluate
    from acbo_ref.backend import ReferenceBackend as ReferenceBackend
    from acbo_ref.campaign import Campaign as Campaign
    from acbo_ref.campaign import load_campaign as load_campaign
    from acbo_ref.checkpoint import load_checkpoint as load_checkpoint
    from acbo_ref.config import Config as Config
    from acbo_ref.config import load_config as load_config
    from acbo_ref.errors import AcboError as AcboError
    from acbo_ref.scm import SCM as SCM
    from acbo_ref.scm import FunctionalSCM as FunctionalSCM
    from acbo_ref.scm import Sine as Sine
    from acbo_ref.scm import Variable as Variable
    from acbo_ref.scm_files import load_scm as load_scm
    from acbo_ref.scm_files import save_scm as save_scm
    from acbo_ref.train import Trainer as Trainer

__all__ = sorted([*_EXPORTS, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'acbo_ref' has no attribute {name!r}")
    return getattr(import_module(f"acbo_ref.{_EXPORTS[name]}"), name)
