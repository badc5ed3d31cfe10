"""acbo: everything that a user of the library needs, under one name.

    import acbo

    campaign = acbo.Campaign.create("reactor", {"temp": (20, 80), "yield": None}, "yield")
    acbo.evaluate(suites=["simple"], quick=True)
    acbo.train("quick_test", "runs/mine")

`dir(acbo)` lists the names. They are those of `acbo_ref`, with `evaluate` and `train` from
running.py, which know every backend. They are loaded on first use, so importing this is quick and
needs nothing installed but what is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import acbo_ref

_OWN = ("evaluate", "train")

if TYPE_CHECKING:
    from acbo.running import evaluate as evaluate
    from acbo.running import train as train
    from acbo_ref import BASELINES as BASELINES
    from acbo_ref import SCM as SCM
    from acbo_ref import AcboError as AcboError
    from acbo_ref import Answer as Answer
    from acbo_ref import Belief as Belief
    from acbo_ref import Campaign as Campaign
    from acbo_ref import CampaignWarning as CampaignWarning
    from acbo_ref import Caution as Caution
    from acbo_ref import Config as Config
    from acbo_ref import EvaluationSettings as EvaluationSettings
    from acbo_ref import FunctionalSCM as FunctionalSCM
    from acbo_ref import Proposal as Proposal
    from acbo_ref import Recommendation as Recommendation
    from acbo_ref import ReferenceBackend as ReferenceBackend
    from acbo_ref import Term as Term
    from acbo_ref import Trainer as Trainer
    from acbo_ref import Variable as Variable
    from acbo_ref import load_campaign as load_campaign
    from acbo_ref import load_checkpoint as load_checkpoint
    from acbo_ref import load_config as load_config
    from acbo_ref import load_scm as load_scm
    from acbo_ref import read_table as read_table
    from acbo_ref import save_scm as save_scm
    from acbo_ref import upgrade_campaign as upgrade_campaign

__version__ = acbo_ref.__version__
__all__ = sorted({*acbo_ref.__all__, *_OWN})


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'acbo' has no attribute {name!r}")
    return getattr(import_module("acbo.running") if name in _OWN else acbo_ref, name)


def __dir__() -> list[str]:
    return __all__
