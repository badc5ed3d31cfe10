"""Configs: every key known, every value checked, errors with key, value, range and the closest
key.
"""

from __future__ import annotations

import pytest
import yaml

from acbo_ref import AcboError, load_config
from acbo_ref.config import Config, RenamedKeyWarning, config_from_dict, shipped_configs
from acbo_ref.settings import describe


def test_shipped_configs_load_and_round_trip():
    assert {"quick_test", "production", "experiment"} <= set(shipped_configs())
    for name in shipped_configs():
        config = load_config(name)
        assert config.name == name
        assert config_from_dict(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config


def test_the_defaults_are_what_users_know():
    """Keys and values of the research code, which a config may change but not rename."""
    c = config_from_dict({})
    assert (c.grpo.group_size, c.grpo.ppo_epochs, c.grpo.clip_ratio, c.policy.fixed_std) == (10, 4, 0.2, 1.5)
    assert (c.grpo.entropy_coefficient, c.grpo.learning_rate, c.grpo.gradient_clip) == (0.01, 5e-4, 1.0)
    assert (c.reward.target, c.reward.parent, c.reward.info_gain) == (0.9, 0.1, 0.0)
    assert [(s.name, s.until_episode) for s in c.curriculum.stages] == [
        ("simple", 200),
        ("medium", 500),
        ("complex", None),
    ]


def test_learned_decisions_are_of_the_pairwise_network():
    """Over rows all decisions are learned from in one pass."""
    rows = "policy.architecture=simple_permutation_invariant"
    with pytest.raises(AcboError, match=r"needs policy\.architecture: pairwise"):
        load_config("quick_test", [rows, "grpo.learned_decisions=2"])
    assert load_config("quick_test", ["grpo.learned_decisions=2"]).grpo.learned_decisions == 2
    assert load_config("quick_test", [rows]).policy.architecture == "simple_permutation_invariant"


def test_production_has_the_three_stages():
    c = load_config("production")
    assert [s.name for s in c.curriculum.stages] == ["simple", "medium", "complex"] and c.total_episodes >= 1000


def test_numbers_that_yaml_reads_as_text():
    assert yaml.safe_load("5e-4") == "5e-4"
    assert load_config("quick_test", ["grpo.learning_rate=5e-4"]).grpo.learning_rate == 5e-4
    assert load_config("quick_test", ["batch_size=6.4e1"]).batch_size == 64


def test_a_file_and_its_overrides(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 3\nobservations_per_episode: [2, 9]\npolicy: {hidden_dim: 16}\nscm: {saturate: true}\n")
    config = load_config(
        path, ["policy.num_heads=2", "curriculum.stages=[{name: a, variables: 3}]", "grpo.clip_ratio_high="]
    )
    assert (config.name, config.seed, config.observations_per_episode) == ("mine", 3, (2, 9))
    assert config.policy.hidden_dim == 16 and config.policy.num_heads == 2 and config.scm.saturate == 1.0
    assert config.curriculum.stages[0].variables == (3, 3) and config.grpo.clip_ratio_high is None
    path.write_text("")
    assert load_config(path) == Config(name="mine")


def test_pool_files_are_relative_to_the_config(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("curriculum: {pools: {plant: [a.json]}, stages: [{name: s, graphs: [plant]}]}\n")
    assert load_config(path).curriculum.pools["plant"] == (str(tmp_path / "a.json"),)


CASES = [
    ("polcy.hidden_dim=8", "unknown key 'polcy'", "did you mean 'policy'"),
    ("grpo.ppo_epoch=8", "unknown key 'grpo.ppo_epoch'", "did you mean 'ppo_epochs'"),
    ("grpo.ppo_epochs=0", "grpo.ppo_epochs is 0, outside the allowed range [1, 100]", ""),
    ("grpo.ppo_epochs=2.5", "grpo.ppo_epochs is 2.5, not a whole number", "[1, 100]"),
    ("grpo.ppo_epochs=.inf", "not a whole number", ""),
    ("grpo.learning_rate=fast", "grpo.learning_rate is 'fast', not a number", "[1e-09, 1]"),
    ("grpo.learning_rate=.nan", "outside the allowed range", ""),
    ("grpo.learning_rate=true", "not a number", ""),
    ("grpo.learning_rate=null", "not a number", ""),
    ("grpo.scale_rewards=groups", "allowed: group, batch, none", "did you mean 'group'"),
    ("grpo.scale_rewards=[group]", "allowed: group, batch, none", ""),
    ("policy.use_fixed_std=1", "policy.use_fixed_std is 1", "true or false"),
    ("policy.num_heads=3", "does not divide policy.hidden_dim", "multiple"),
    ("policy={hidden_dim: 9, num_heads: 3}", "not even", ""),
    ("grpo.minibatches=5", "does not divide batch_size", "multiple"),
    ("reward={target: 0, parent: 0}", "all reward weights are 0", "target"),
    ("heads.outcome_weight=0", None, ""),
    ("scm.weight=[2, 1]", "low is above high", "[low, high]"),
    ("scm.weight=[1, 2, 3]", "scm.weight is [1, 2, 3]", "[low, high]"),
    ("observations_per_episode=-1", "outside the allowed range", ""),
    ("curriculum.stages=[]", "not a list of stages", ""),
    ("curriculum.stages=[{name: a, graphs: [chian]}]", "'chian'", "did you mean 'chain'"),
    ("curriculum.stages=[{name: a, grafs: [chain]}]", "unknown key 'curriculum.stages[0].grafs'", "graphs"),
    ("curriculum.stages=[{name: a}, {name: b}]", "never ends", "until_episode"),
    (
        "curriculum.stages=[{name: a, until_episode: 5}, {name: b, until_episode: 5}, {name: c}]",
        "not above the stage",
        "",
    ),
    ("curriculum.stages=[{name: a, until_episode: 5}]", "is the last stage", "early_stopping"),
    ("scm.weight=0", "scm.weight is 0, outside", ""),
    ("curriculum.pools={chain: [a.json]}", "name of a graph family", "rename"),
    ("curriculum.pools={p: 3}", "curriculum.pools.p is 3", "SCM files"),
    ("curriculum.pools=3", "curriculum.pools is 3", ""),
    ("curriculum=3", "curriculum is not a mapping", ""),
    ("seed.x=3", "seed is not a section", "lists are set whole"),
    ("seed", "is not KEY=VALUE", "--set"),
    ("seed=[", "not valid YAML", ""),
    ("name=a/b", "name is 'a/b'", "text"),
]


@pytest.mark.parametrize(("override", "message", "hint"), CASES, ids=[c[0] for c in CASES])
def test_mistakes_are_explained(override, message, hint):
    if message is None:
        load_config("quick_test", [override])
        return
    with pytest.raises(AcboError) as caught:
        load_config("quick_test", [override])
    assert message in caught.value.message
    assert hint in caught.value.hint + caught.value.message


def test_combinations_that_cannot_work():
    with pytest.raises(AcboError, match="outcome_weight is 0"):
        load_config("quick_test", ["decision=outcome_head", "heads.outcome_weight=0"])
    with pytest.raises(AcboError, match="adaptive"):
        load_config("quick_test", ["exploration.adaptive=true", "policy.use_fixed_std=false"])


@pytest.mark.parametrize("content", [b"\xff\xfe", b"- a\n- b\n", b"a: [", b"{" * 5000, b"3"])
def test_files_that_are_no_config(tmp_path, content):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(AcboError, match=r"bad\.yaml"):
        load_config(path)


def test_missing_files_and_names(tmp_path):
    with pytest.raises(AcboError) as caught:
        load_config("produktion")
    assert "did you mean 'production'" in caught.value.hint
    with pytest.raises(AcboError) as caught:
        load_config(tmp_path / "none.yaml")
    assert "production" in caught.value.hint
    big = tmp_path / "big.yaml"
    big.write_text("#" * (2**20 + 1))
    with pytest.raises(AcboError, match="larger"):
        load_config(big)


def test_every_key_is_described():
    rows = describe(Config)
    keys = {row[0] for row in rows}
    assert {"seed", "grpo.group_size", "policy.fixed_std", "curriculum.stages[i].variables", "scm.weight"} <= keys
    assert all(row[3] for row in rows)


def test_old_names_are_read_with_a_word_about_the_new_ones(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text("decision: surrogate\nsurrogate: {commit_share: 0.25, probes: 3}\npolicy: {evidence: true}\n")
    with pytest.warns(RenamedKeyWarning) as caught:
        config = load_config(path, ["surrogate.parent_weight=0.3"])
    assert [str(w.message) for w in caught] == [
        "decision: surrogate is called outcome_head now",
        "surrogate is called heads now",
        "heads.commit_share is called heads.commit_by_outcome_head now",
        "policy.evidence does nothing any more: remove it",
        "surrogate is called heads now",
    ] or len(caught) == 5
    assert config.decision == "outcome_head"
    assert (config.heads.commit_by_outcome_head, config.heads.probes, config.heads.parent_weight) == (0.25, 3, 0.3)
    with pytest.raises(AcboError, match="both are given"):
        config_from_dict({"surrogate": {}, "heads": {}})


def test_noise_draws_come_in_pairs():
    with pytest.raises(AcboError, match="noise_draws is 3"):
        load_config("quick_test", ["reward.noise_draws=3"])
