"""Campaigns that another method than the policy runs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from acbo_cli.main import run
from campaign_crashes import VARIABLES, measured

from acbo_ref.arena.baselines import BASELINES
from acbo_ref.arena.play import draw_episodes, run_method
from acbo_ref.arena.suites import load_suite
from acbo_ref.backend import ReferenceBackend
from acbo_ref.campaign.bounds import Caution
from acbo_ref.campaign.campaign import Campaign, load_campaign
from acbo_ref.errors import AcboError
from acbo_ref.policy.inputs import Task
from acbo_ref.randomness import Role, generator
from acbo_ref.training.checkpoint import load_checkpoint, shipped_policy

METHODS = [name for name in BASELINES if name not in ("optuna", "nothing")]
ROWS = np.random.default_rng(0).standard_normal((8, 4)) * [3, 0.5, 1, 1] + [5, 0, 0, 3]


def make(name):
    if name in ("gp", "gp_all"):
        pytest.importorskip("sklearn")
    return BASELINES[name]


def plant(variable, value, n):
    row = np.random.default_rng(n).standard_normal(4) + np.array([5, 0, 0, 3])
    i = list(VARIABLES).index(variable)
    row[i] = value
    row[3] += {"a": -0.4 * value, "b": 0.8 * value}[variable]
    return row


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_does_what_it_does_in_the_arena(tmp_path, policy, name, direction):
    """Replayed from the journal at every command, it takes the same actions as in one go."""
    method, sign = make(name), -1.0 if direction == "maximize" else 1.0
    campaign = Campaign.create(tmp_path / "c", VARIABLES, "y", direction, ROWS, policy=policy)
    low, high = np.array([d or (-1, 1) for d in VARIABLES.values()], float).T
    task = Task(
        observations=(ROWS * [1, 1, 1, sign])[None], observation_mask=np.ones((1, 8), bool), target=np.array([3]),
        valid=np.ones((1, 4), bool), manipulable=np.array([[True, True, False, False]]), low=low[None], high=high[None],
    )  # fmt: skip
    seed = int(campaign.status()["policy_sha256"][:16], 16)
    direct = method(task, generator(seed, Role.BASELINE))
    for n in range(6):
        proposal, action = load_campaign(campaign.path).ask(method=method), direct.ask()
        assert (proposal.variable, proposal.value) == (list(VARIABLES)[action[0]], pytest.approx(action[1]))
        assert method.__name__ in proposal.reason and proposal.low < proposal.predicted < proposal.high
        row = plant(proposal.variable, proposal.value, n)
        campaign.tell(proposal.id, row, yes=True)
        direct.tell(action, row * [1, 1, 1, sign])
    settled = campaign.recommend(method)
    action = direct.recommend()
    assert (settled.variable, settled.value) == (list(VARIABLES)[action[0]], pytest.approx(action[1]))
    said = campaign.predict(settled.variable, settled.value)
    assert (settled.predicted, settled.high) == pytest.approx((said.predicted, said.high))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_may_take_over_and_be_taken_over_from(campaign, name):
    """After experiments of the policy, of nobody, of several variables, and with missing values."""
    method = make(name)
    for n in range(4):
        proposal = campaign.ask(method=None if n % 2 == 0 else method)
        campaign.tell(proposal.id, measured(proposal.variable, proposal.value))
    campaign.tell_external({"a": 3.3}, {"y": 1.0})
    campaign.tell_external({"a": 3.3, "b": 0.1}, {"y": 1.0})
    proposal = campaign.ask(method=method)
    low, high = VARIABLES[proposal.variable]
    assert low <= proposal.value <= high and campaign.recommend(method).variable in "ab"
    assert load_campaign(campaign.path).ask() == proposal  # pending, whoever asks
    campaign.abandon(proposal.id)
    assert campaign.ask().id != proposal.id


@pytest.mark.parametrize("name", METHODS)
def test_a_method_on_every_scale(tmp_path, policy, name):
    variables = {"a": (0.01, 10, "log"), "b": (0, 7, "step=2"), "c": (0, 360, "periodic"), "y": None}
    rows = np.abs(ROWS) + 0.1
    campaign = Campaign.create(tmp_path / "c", variables, "y", observations=rows, policy=policy)
    for n in range(8):
        proposal = campaign.ask(method=make(name))
        assert variables[proposal.variable][0] <= proposal.value <= variables[proposal.variable][1]
        assert proposal.variable != "b" or proposal.value in (0, 2, 4, 6)
        campaign.tell(proposal.id, {"y": float(n % 3)})


@pytest.mark.filterwarnings("ignore::acbo_ref.campaign.facts.CampaignWarning")
def test_endpoints_without_past_rows_tries_every_end(tmp_path, policy):
    campaign = Campaign.create(tmp_path / "c", {"a": (0, 1), "b": (2, 3), "y": None}, "y", policy=policy)
    tried = set()
    for _ in range(4):
        proposal = campaign.ask(method=BASELINES["endpoints"])
        tried.add((proposal.variable, proposal.value))
        campaign.tell(proposal.id, {"y": 1.0})
    assert tried == {("a", 0.0), ("a", 1.0), ("b", 2.0), ("b", 3.0)}


def test_one_that_would_do_nothing_is_refused(campaign):
    class Idle:
        def __init__(self, task, rng):
            pass

        def ask(self):
            return -1, 0.0

        recommend = ask

    before = (campaign.path / "journal.jsonl").read_bytes()
    for choose in (lambda: campaign.ask(method=Idle), lambda: campaign.recommend(Idle)):
        with pytest.raises(AcboError, match="Idle would do nothing now"):
            choose()
    assert (campaign.path / "journal.jsonl").read_bytes() == before


def test_the_campaigns_own_method_chooses_where_nothing_else_is_said(tmp_path, policy):
    begun = {"policy": policy, "observations": ROWS}
    campaign = Campaign.create(tmp_path / "c", VARIABLES, "y", **begun, method="endpoints")
    other = Campaign.create(tmp_path / "o", VARIABLES, "y", **begun)
    assert (campaign.status()["method"], other.status()["method"]) == ("endpoints", "policy")
    proposal = load_campaign(campaign.path).ask()
    assert proposal == other.ask(method="endpoints") and "Endpoints chose it" in proposal.reason
    assert campaign.recommend() == other.recommend("endpoints") and campaign.recommend("policy") == other.recommend()
    assert "Chosen by" in campaign.report().read_text()
    with pytest.raises(AcboError, match="Endpoints knows no pending experiments"):
        campaign.ask_batch(2)
    assert len(campaign.ask_batch(2, method="policy")) == 2
    for method, words in (("endpoint", "did you mean 'endpoints'"), ("optuna", "")):
        with pytest.raises(AcboError, match="can run a campaign") as error:
            Campaign.create(tmp_path / "x", VARIABLES, "y", **begun, method=method)
        assert words in error.value.hint and not (tmp_path / "x").exists()
    with pytest.raises(AcboError, match="knows no bounds"):
        Campaign.create(tmp_path / "x", VARIABLES, "y", **begun, method="regress", caution=Caution(never_below=1.0))


def test_for_the_final_recommendation_a_campaign_does_what_policy_final_does_in_the_arena(tmp_path):
    checkpoint = load_checkpoint(shipped_policy())
    backend = ReferenceBackend(checkpoint.config)
    suite, steps = load_suite("standardised", 0).first(2), 5
    episodes = draw_episodes(suite, 0, 8, steps)
    state = backend.from_host(checkpoint.state)
    played = {method: run_method(suite, method, 0, 8, steps, backend, state) for method in ("policy", "policy_final")}
    assert (played["policy"].value != played["policy_final"].value).any()
    for s, system in enumerate(suite.systems):
        domains = {v.name: (v.low, v.high) if v.manipulable else None for v in system.variables}
        rows = np.array(episodes.observations[s])
        campaign = Campaign.create(
            tmp_path / str(s), domains, system.target, observations=rows, budget=steps, objective="final"
        )
        assert campaign.status()["objective"] == "final"
        for k in range(steps):
            proposal = load_campaign(campaign.path).ask()
            variable, value = system.names.index(proposal.variable), proposal.value
            found = played["policy_final"]
            assert (variable, value) == (found.variable[s, k], pytest.approx(found.value[s, k], abs=1e-6))
            campaign.tell(proposal.id, system.simulate(episodes.noise[s][k : k + 1], variable, value)[0], yes=True)


def test_an_objective_is_kept_shown_and_checked(tmp_path, policy):
    begun = {"policy": policy, "observations": ROWS}
    campaign = Campaign.create(tmp_path / "c", VARIABLES, "y", **begun, objective="final")
    assert json.loads((campaign.path / "journal.jsonl").read_text().splitlines()[0])["entry"]["schema"] == 4
    assert "Objective" in campaign.report().read_text()
    plain = Campaign.create(tmp_path / "p", VARIABLES, "y", **begun)
    assert plain.status()["objective"] == "cumulative" and "Objective" not in plain.report().read_text()
    for more, words in (({"objective": "last"}, "no objective 'last'"),
                        ({"objective": "final", "method": "regress"}, "knows no objective")):  # fmt: skip
        with pytest.raises(AcboError, match=words):
            Campaign.create(tmp_path / "x", VARIABLES, "y", **begun, **more)
        assert not (tmp_path / "x").exists()


def test_by_the_command_line(campaign, capsys):
    folder = str(campaign.path)
    assert run(["campaign", "recommend", folder, "--method", "regress", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["variable"] in "ab"
    for words, message in (
        (["--method", "regres"], "did you mean 'regress'"),
        (["--method", "optuna"], "no method 'optuna' can run a campaign"),
        (["--method", "regress", "--batch", "2"], "knows no pending experiments"),
        (["--method", "regress", "--another"], "knows no pending experiments"),
        (["--method", "regress", "--never-below", "2"], "Regress knows no bounds (never below 2 (risk at most 0.1))"),
    ):
        assert run(["campaign", "ask", folder, *words]) == 2
        assert message in capsys.readouterr().err
    assert run(["campaign", "ask", folder, "--method", "regress"]) == 0
    assert "Regress chose it" in capsys.readouterr().out
    assert run(["campaign", "ask", folder, "--method", "policy", "--batch", "2"]) == 0
