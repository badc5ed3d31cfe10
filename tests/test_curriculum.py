"""Stages, rehearsal and pools."""

from __future__ import annotations

import numpy as np
import pytest
from test_scm import diamond

from acbo_ref import SCM, AcboError, Variable, save_scm
from acbo_ref.training.curriculum import Curriculum
from acbo_ref.verify.data import small_config

STAGES = [
    {"name": "a", "until_episode": 60, "advance_score": 0.8, "variables": [3, 4], "graphs": ["chain"]},
    {"name": "b", "until_episode": 120, "variables": [6, 6], "graphs": ["fork"]},
    {"name": "c", "variables": [8, 9], "graphs": ["collider"]},
]


def curriculum(**changes):
    section = {"stages": STAGES, "window": 12, "rehearsal": 0.0} | changes
    return Curriculum(small_config(curriculum=section, scm={"nonlinear": 0.0}))


def sizes(batch):
    return batch.valid.sum(axis=1)


def play(c, gains, episodes_done):
    """Six episodes of the stage with these gains of 1 each; whether a new stage begins."""
    c.record(np.full(6, gains), np.ones(6))
    return c.advance(episodes_done)


def test_a_stage_ends_at_its_last_episode():
    c = curriculum()
    assert not play(c, 0.0, 6) and not play(c, 0.0, 54)
    assert play(c, 0.0, 60) and c.stage.name == "b"
    assert not play(c, 1.0, 114)  # b has no threshold: a perfect score changes nothing
    assert play(c, 0.0, 120) and c.stage.name == "c"
    assert not play(c, 1.0, 10**9)


def test_stages_whose_end_is_behind_are_passed_over():
    c = curriculum()
    assert play(c, 0.0, 120) and c.stage.name == "c"


def test_a_stage_ends_early_on_a_good_recent_score():
    c = curriculum()
    assert not play(c, 0.9, 6)  # too few episodes to trust
    assert play(c, 0.9, 12) and c.recent_score() is None
    poor = curriculum()
    assert not any(play(poor, 0.79, 6 * i) for i in range(1, 9))


def test_the_recent_score_is_a_ratio_of_sums_over_the_window():
    c = curriculum(window=3)
    assert c.recent_score() is None
    c.record(np.array([100.0, 1, 2]), np.array([100.0, 2, 2]))
    c.record(np.array([0.0]), np.array([4.0]))
    assert c.recent_score() == pytest.approx((1 + 2 + 0) / (2 + 2 + 4))


def test_models_fit_the_stage_and_shapes_do_not_change_within_it():
    c = curriculum()
    for iteration in range(5):
        batch, mask, rehearsed = c.sample(iteration)
        assert not rehearsed.any()
        assert batch.intercept.shape == (6, 4) and set(sizes(batch)) <= {3, 4}
        assert mask.shape == (6, 5) and set(mask.sum(axis=1)) <= {3, 4, 5}
    a, b = c.sample(3), c.sample(3)
    assert (a[0].weights == b[0].weights).all() and (a[1] == b[1]).all()
    assert (c.sample(3)[0].weights != c.sample(4)[0].weights).any()


def test_rehearsal_brings_back_earlier_stages():
    c = curriculum(rehearsal=0.5)
    c.state.stage = 2
    samples = [c.sample(i) for i in range(40)]
    seen = np.concatenate([sizes(s.systems) for s in samples])
    rehearsed = np.concatenate([s.rehearsed for s in samples])
    assert (rehearsed == np.isin(seen, [3, 4, 6])).all()
    share = rehearsed.mean()
    # 240 draws at 0.5: standard error 0.032
    assert abs(share - 0.5) < 5 * 0.032
    assert {3, 4, 6, 8, 9} == set(seen)


def test_a_pool_rotates_and_is_used_although_no_stage_names_it():
    c = curriculum(stages=[{"name": "a", "variables": [3, 3], "graphs": ["chain"]}])
    c.scm_pool["custom"] = [diamond(), diamond(variables=(*diamond().variables, Variable("Z")))]
    seen = np.concatenate([sizes(c.sample(i)[0]) for i in range(30)])
    assert set(seen) == {3, 4, 5} and c.sample(0).systems.intercept.shape == (6, 5)


def test_a_named_pool_is_used_where_it_is_named_only(tmp_path):
    for n in range(2):
        save_scm(diamond(name=f"d{n}", direction="maximize" if n else "minimize"), tmp_path / f"{n}.json")
    files = [str(tmp_path / f"{n}.json") for n in range(2)]
    stages = [
        {"name": "a", "until_episode": 6, "variables": [3, 3], "graphs": ["chain"]},
        {"name": "b", "graphs": ["plant"]},
    ]
    c = curriculum(stages=stages, pools={"plant": files})
    assert (sizes(c.sample(0)[0]) == 3).all()
    c.state.stage = 1
    batch = c.sample(1).systems
    assert (sizes(batch) == 4).all()
    # in rotation: 6 episodes are three of each; the maximised one arrives negated
    intercepts = batch.intercept[np.arange(6), batch.target]
    assert intercepts.tolist() == [1.0, -1.0] * 3


def test_pools_are_checked():
    c = curriculum()
    c.scm_pool["custom"] = []
    with pytest.raises(AcboError, match="'custom' is empty"):
        c.sample(0)
    c.scm_pool["custom"] = ["scm.json"]
    with pytest.raises(AcboError, match="has a str"):
        c.sample(0)


def test_missing_pool_files_are_named(tmp_path):
    with pytest.raises(AcboError, match=r"none\.json"):
        curriculum(pools={"plant": [str(tmp_path / "none.json")]})


def test_a_small_pool_model_is_padded_to_the_stage():
    small = SCM("s", "y", (Variable("x"), Variable("y")), {("x", "y"): 1.0})
    c = curriculum()
    c.scm_pool["custom"] = [small]
    assert c.sample(0).systems.intercept.shape == (6, 4)
