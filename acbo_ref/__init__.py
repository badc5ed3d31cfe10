"""acbo_ref: the reference implementation of amortised causal Bayesian optimisation. NumPy; this is
the specification.

Rooms, from the ground up. A room imports only rooms above it in this list (tests/test_house.py):

    errors, randomness, arrays, files, version    the ground
    settings, config                              how a setting is declared, and which there are
    systems                                       what is unknown: causal models, files of them, the
                                                  prior over them
    policy                                        reads, thinks, decides
    grpo                                          one iteration of learning
    backend                                       what a backend is, and the reference one
    training                                      the loop around it: curriculum, run folder,
                                                  checkpoints
    arena                                         methods compared on systems that nobody has seen
    campaign                                      real experiments
    verify                                        the proof

Names are loaded on first use, so that `import acbo_ref` and `acbo --help` stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from acbo_ref.version import __version__ as __version__

_EXPORTS = {
    "AcboError": "errors",
    "Answer": "campaign.predictions",
    "BASELINES": "arena.baselines",
    "Belief": "campaign.predictions",
    "Campaign": "campaign.campaign",
    "CampaignWarning": "campaign.facts",
    "Caution": "campaign.bounds",
    "Config": "config",
    "EvaluationSettings": "arena.compare",
    "FunctionalSCM": "systems.functional",
    "Proposal": "campaign.facts",
    "Recommendation": "campaign.settling",
    "ReferenceBackend": "backend",
    "SCM": "systems.scm",
    "Term": "systems.scm",
    "Trainer": "training.trainer",
    "Variable": "systems.scm",
    "evaluate": "arena.compare",
    "load_campaign": "campaign.campaign",
    "load_checkpoint": "training.checkpoint",
    "load_config": "config",
    "load_scm": "systems.files",
    "read_table": "campaign.workbooks",
    "save_scm": "systems.files",
    "upgrade_campaign": "campaign.campaign",
}

if TYPE_CHECKING:
    from acbo_ref.arena.baselines import BASELINES as BASELINES
    from acbo_ref.arena.compare import EvaluationSettings as EvaluationSettings
    from acbo_ref.arena.compare import evaluate as evaluate
    from acbo_ref.backend import ReferenceBackend as ReferenceBackend
    from acbo_ref.campaign.bounds import Caution as Caution
    from acbo_ref.campaign.campaign import Campaign as Campaign
    from acbo_ref.campaign.campaign import load_campaign as load_campaign
    from acbo_ref.campaign.campaign import upgrade_campaign as upgrade_campaign
    from acbo_ref.campaign.facts import CampaignWarning as CampaignWarning
    from acbo_ref.campaign.facts import Proposal as Proposal
    from acbo_ref.campaign.predictions import Answer as Answer
    from acbo_ref.campaign.predictions import Belief as Belief
    from acbo_ref.campaign.settling import Recommendation as Recommendation
    from acbo_ref.campaign.workbooks import read_table as read_table
    from acbo_ref.config import Config as Config
    from acbo_ref.config import load_config as load_config
    from acbo_ref.errors import AcboError as AcboError
    from acbo_ref.systems.files import load_scm as load_scm
    from acbo_ref.systems.files import save_scm as save_scm
    from acbo_ref.systems.functional import FunctionalSCM as FunctionalSCM
    from acbo_ref.systems.scm import SCM as SCM
    from acbo_ref.systems.scm import Term as Term
    from acbo_ref.systems.scm import Variable as Variable
    from acbo_ref.training.checkpoint import load_checkpoint as load_checkpoint
    from acbo_ref.training.trainer import Trainer as Trainer

__all__ = sorted([*_EXPORTS, "__version__"])


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'acbo_ref' has no attribute {name!r}")
    return getattr(import_module(f"acbo_ref.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
