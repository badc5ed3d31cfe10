"""Processes: what people run and would like to run better, as `FunctionalSCM`s with their units.

Sixteen kinds, written for this suite, not fitted to data: peaks, saturation, cliffs, trade-offs,
levers that do nothing, operators who react to a disturbance, disturbances that swamp the target,
and two that already stand near their best. Each is drawn with constants of its own, so that no
place of an optimum can be learnt by heart; none of them is in any training prior.

Contract: a process is a function of the generator it is given; e is standard normal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit

from acbo_ref.arrays import Array
from acbo_ref.systems.functional import FunctionalSCM, Mechanism
from acbo_ref.systems.scm import Variable

Values = Mapping[str, Array]


@dataclass
class _Draft:
    """A process while it is written down, variable by variable in topological order."""

    rng: np.random.Generator
    variables: list[Variable] = field(default_factory=list)
    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    mechanisms: dict[str, Mechanism] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)

    def near(self, value: float, share: float = 0.15) -> float:
        """A constant: `value` up to a share of it."""
        return float(value * (1.0 + share * self.rng.uniform(-1, 1)))

    def lever(
        self,
        name: str,
        low: float,
        high: float,
        usual: float,
        spread: float,
        follows: Mapping[str, float] | None = None,
    ) -> None:
        """Something that can be set, which stands near `usual` by itself, or follows others: an
        operator who reacts."""
        slopes = dict(follows or {})

        def mechanism(v: Values, e: Array) -> Array:
            return np.clip(usual + sum(slope * v[other] for other, slope in slopes.items()) + spread * e, low, high)

        self._add(Variable(name, low=low, high=high), tuple(slopes), mechanism)

    def seen(self, name: str, parents: tuple[str, ...], mechanism: Mechanism, hidden: bool = False) -> None:
        """Something that is measured and cannot be set; with `hidden`, not even measured."""
        self._add(Variable(name, manipulable=False), parents, mechanism)
        if hidden:
            self.hidden.add(name)

    def _add(self, variable: Variable, parents: tuple[str, ...], mechanism: Mechanism) -> None:
        self.variables.append(variable)
        self.parents[variable.name], self.mechanisms[variable.name] = parents, mechanism

    def process(self, name: str, direction: str) -> FunctionalSCM:
        """The whole; the last variable is the target."""
        target = self.variables[-1].name
        return FunctionalSCM(
            name, target, tuple(self.variables), self.parents, self.mechanisms, frozenset(self.hidden), direction
        )


def _peak(x: Array, place: float, width: float) -> Array:
    """1 at its place, falling off like a bell."""
    return np.asarray(np.exp(-(((x - place) / width) ** 2)))


def batch_reactor(rng: np.random.Generator) -> FunctionalSCM:
    """The yield peaks in temperature and in pH, and saturates with stirring."""
    d = _Draft(rng)
    hot, acid, stir = d.near(72), d.near(7.2, 0.08), d.near(150)
    d.seen("room", (), lambda v, e: 20 + 3 * e)
    d.lever("temperature", 40, 100, 60, 3)
    d.lever("ph", 4, 10, 6.3, 0.3)
    d.lever("stirring", 100, 600, 250, 30)
    d.lever("label_colour", 0, 10, 5, 1)
    d.seen(
        "yield", ("room", "temperature", "ph", "stirring"),
        lambda v, e: 70 * _peak(v["temperature"], hot, 14) * _peak(v["ph"], acid, 1.4) * (1 - np.exp(-v["stirring"] / stir))
        + 0.3 * (v["room"] - 20) + 2 * e,
    )  # fmt: skip
    return d.process("batch reactor", "maximize")


def side_product(rng: np.random.Generator) -> FunctionalSCM:
    """Residence time and heat drive the reaction, and then the product away."""
    d = _Draft(rng)
    activation, loss = d.near(0.09), d.near(0.16)
    d.lever("flow", 1, 10, 4, 0.5)
    d.lever("heat", 0, 60, 25, 3)
    d.lever("pressure", 1, 5, 2, 0.2)
    d.seen(
        "wanted", ("flow", "heat"),
        lambda v, e: np.exp(activation * v["heat"]) / v["flow"] / (1 + np.exp(activation * v["heat"]) / v["flow"]),
    )  # fmt: skip
    d.seen("waste", ("flow", "heat"), lambda v, e: 0.02 * np.exp(loss * (v["heat"] - 15)) / v["flow"])
    d.seen("profit", ("wanted", "waste"), lambda v, e: 100 * v["wanted"] - 60 * v["waste"] + 3 * e)
    return d.process("side product", "maximize")


def mixer(rng: np.random.Generator) -> FunctionalSCM:
    """Slow mixing leaves lumps, fast mixing costs power: a U in speed."""
    d = _Draft(rng)
    lumps, power = d.near(40), d.near(0.0008)
    d.seen("viscosity", (), lambda v, e: 5 + 0.5 * e)
    d.lever("speed", 20, 300, 90, 8, {"viscosity": 4})
    d.lever("fill", 20, 90, 60, 4)
    d.lever("shift", 0, 3, 1.5, 0.5)
    d.seen(
        "cost", ("viscosity", "speed", "fill"),
        lambda v, e: lumps * v["viscosity"] * np.exp(-v["speed"] / 40) + power * v["viscosity"] * v["speed"] ** 2 / 5
        + 0.004 * (v["fill"] - 70) ** 2 + 1.5 * e,
    )  # fmt: skip
    return d.process("mixer", "minimize")


def greenhouse(rng: np.random.Generator) -> FunctionalSCM:
    """Heating follows the weather; water has an optimum, light and CO2 saturate."""
    d = _Draft(rng)
    wet, warm = d.near(5.5), d.near(23)
    d.seen("outside", (), lambda v, e: 12 + 5 * e)
    d.lever("heating", 10, 35, 22.5, 0.8, {"outside": -0.35})
    d.lever("water", 0, 12, 3.5, 0.6)
    d.lever("light", 0, 16, 8, 1)
    d.lever("co2", 300, 1200, 450, 30)
    d.seen(
        "growth", ("outside", "heating", "water", "light", "co2"),
        lambda v, e: 12 * _peak(v["heating"] + 0.1 * v["outside"], warm, 8) * _peak(v["water"], wet, 4)
        * (0.4 + v["light"] / (v["light"] + 6)) + 2 * v["co2"] / (v["co2"] + 400) + 0.7 * e,
    )  # fmt: skip
    return d.process("greenhouse", "maximize")


def boiler(rng: np.random.Generator) -> FunctionalSCM:
    """The load swamps everything, and is measured; excess air has a sharp optimum."""
    d = _Draft(rng)
    air = d.near(1.18, 0.06)
    d.seen("load", (), lambda v, e: 60 + 12 * e)
    d.lever("air_ratio", 0.9, 1.8, 1.35, 0.04)
    d.lever("feed_temperature", 60, 140, 90, 5)
    d.lever("blowdown", 0, 10, 4, 0.7)
    d.seen(
        "loss", ("load", "air_ratio", "feed_temperature", "blowdown"),
        lambda v, e: 0.5 * v["load"] + 60 * (v["air_ratio"] - air) ** 2 + 0.3 * v["blowdown"]
        - 0.03 * (v["feed_temperature"] - 60) + 1.2 * e,
    )  # fmt: skip
    return d.process("boiler", "minimize")


def queue(rng: np.random.Generator) -> FunctionalSCM:
    """Waiting explodes where servers are few; managers add some when it is busy."""
    d = _Draft(rng)
    wage = d.near(2.2)
    d.seen("arrivals", (), lambda v, e: 10 + 1.5 * e)
    d.lever("servers", 4, 30, 6, 0.7, {"arrivals": 0.6})
    d.lever("opening_hours", 6, 14, 10, 0.4)
    d.lever("poster_size", 0, 100, 50, 15)
    d.seen(
        "cost", ("arrivals", "servers", "opening_hours"),
        lambda v, e: wage * v["servers"] + 60 * expit((v["arrivals"] * 10 / v["opening_hours"] - v["servers"]) / 1.2)
        + 0.8 * (v["opening_hours"] - 9) ** 2 + 2.5 * e,
    )  # fmt: skip
    return d.process("queue", "minimize")


def clinic(rng: np.random.Generator) -> FunctionalSCM:
    """A dose works up to a point and harms beyond; the supplement does nothing."""
    d = _Draft(rng)
    half, toxic = d.near(30), d.near(160)
    d.seen("age", (), lambda v, e: 60 + 8 * e)
    d.lever("dose", 0, 300, 25, 6, {"age": 0.2})
    d.lever("supplement", 0, 50, 20, 5)
    d.lever("exercise", 0, 10, 2, 0.7)
    d.seen("level", ("dose", "age"), lambda v, e: v["dose"] * (0.6 + 0.006 * v["age"]) + 3 * e)
    d.seen(
        "wellbeing", ("age", "level", "exercise"),
        lambda v, e: 25 * v["level"] / (np.abs(v["level"]) + half) - 30 * expit((v["level"] - toxic) / 15) - 0.2 * v["age"]
        + 4 * (1 - np.exp(-v["exercise"] / 3)) + 2.5 * e,
    )  # fmt: skip
    return d.process("clinic", "maximize")


def aeration(rng: np.random.Generator) -> FunctionalSCM:
    """Oxygen cleans the water with diminishing returns and costs current; operators follow the
    inflow."""
    d = _Draft(rng)
    clean, current = d.near(45), d.near(5.0)
    d.seen("inflow", (), lambda v, e: 100 + 15 * e)
    d.lever("oxygen", 0.5, 8, 2.0, 0.3, {"inflow": 0.02})
    d.lever("sludge_age", 2, 25, 10, 1)
    d.lever("chlorine", 0, 5, 1, 0.3)
    d.seen("ammonia", ("inflow", "oxygen"), lambda v, e: clean * np.exp(-v["oxygen"] / 1.5) * v["inflow"] / 100 + e)
    d.seen(
        "cost", ("oxygen", "ammonia", "sludge_age"),
        lambda v, e: 1.2 * v["ammonia"] + current * v["oxygen"] + 0.08 * (v["sludge_age"] - 13) ** 2 + 1.5 * e,
    )  # fmt: skip
    return d.process("aeration", "minimize")


def mill(rng: np.random.Generator) -> FunctionalSCM:
    """Throughput grows with the feed until the mill chokes: a cliff."""
    d = _Draft(rng)
    choke = d.near(82, 0.08)
    d.seen("hardness", (), lambda v, e: 10 + e)
    d.lever("feed", 20, 120, 55, 4)
    d.lever("water", 10, 60, 30, 3)
    d.lever("speed", 60, 90, 72, 1.5)
    d.seen(
        "throughput", ("hardness", "feed", "water", "speed"),
        lambda v, e: v["feed"] * (1 - 0.6 * expit((v["feed"] - choke + 2 * (v["hardness"] - 10)) / 2.5))
        - 0.01 * (v["water"] - 38) ** 2 + 0.3 * (v["speed"] - 72) - 0.04 * (v["speed"] - 72) ** 2 + 2 * e,
    )  # fmt: skip
    return d.process("mill", "maximize")


def column(rng: np.random.Generator) -> FunctionalSCM:
    """Purity saturates with reflux, heat is paid for."""
    d = _Draft(rng)
    steep, price = d.near(1.6), d.near(9)
    d.seen("feed_share", (), lambda v, e: 0.5 + 0.04 * e)
    d.lever("reflux", 0.5, 8, 1.5, 0.25)
    d.lever("tray_temperature", 70, 110, 88, 1.5)
    d.lever("bottom_level", 20, 80, 50, 4)
    d.seen(
        "purity", ("feed_share", "reflux", "tray_temperature"),
        lambda v, e: 100 * np.tanh(steep * v["reflux"] / 3) * _peak(v["tray_temperature"], 92, 18)
        + 30 * (v["feed_share"] - 0.5) + 0.8 * e,
    )  # fmt: skip
    d.seen("profit", ("purity", "reflux"), lambda v, e: 1.2 * v["purity"] - price * v["reflux"] + 1.5 * e)
    return d.process("column", "maximize")


def oven(rng: np.random.Generator) -> FunctionalSCM:
    """Time times heat must be right: a ridge, in which the best of one depends on the other."""
    d = _Draft(rng)
    right = d.near(60, 0.1)
    d.lever("minutes", 5, 60, 22, 1.5)
    d.lever("heat", 120, 260, 190, 5)
    d.lever("humidity", 0, 100, 45, 8)
    d.seen("core", ("minutes", "heat"), lambda v, e: 20 + 0.01 * v["minutes"] * (v["heat"] - 40) + e)
    d.seen(
        "defects", ("core", "humidity"),
        lambda v, e: 30 * (1 - _peak(v["core"], right + 15, 16)) + 0.003 * (v["humidity"] - 60) ** 2 + 1.2 * e,
    )  # fmt: skip
    return d.process("oven", "minimize")


def fermenter(rng: np.random.Generator) -> FunctionalSCM:
    """Feed and warmth have optima; an unseen contamination disturbs, and moves the foam as well."""
    d = _Draft(rng)
    feed, warm = d.near(6), d.near(34, 0.05)
    d.seen("contamination", (), lambda v, e: e, hidden=True)
    d.lever("feed", 0, 12, 3.5, 0.5)
    d.lever("warmth", 24, 44, 30, 0.6)
    d.lever("oxygen", 0, 100, 40, 5)
    d.lever("antifoam", 0, 10, 3, 0.5, {"contamination": 0.8})
    d.seen(
        "foam", ("contamination", "antifoam"), lambda v, e: 5 + 2 * v["contamination"] - 0.5 * v["antifoam"] + 0.5 * e
    )
    d.seen(
        "titre", ("contamination", "feed", "warmth", "oxygen"),
        lambda v, e: 40 * _peak(v["feed"], feed, 4) * _peak(v["warmth"], warm, 7) * v["oxygen"] / (v["oxygen"] + 25)
        - 2 * v["contamination"] + 1.2 * e,
    )  # fmt: skip
    return d.process("fermenter", "maximize")


def moulding(rng: np.random.Generator) -> FunctionalSCM:
    """Warp is a U in pressure and in cooling; the pigment does nothing."""
    d = _Draft(rng)
    press, cool = d.near(95), d.near(26)
    d.seen("moisture", (), lambda v, e: 0.2 + 0.03 * e)
    d.lever("pressure", 40, 160, 70, 5)
    d.lever("cooling", 5, 45, 15, 1.5)
    d.lever("melt", 180, 260, 215, 4)
    d.lever("pigment", 0, 5, 2, 0.5)
    d.seen(
        "warp", ("moisture", "pressure", "cooling", "melt"),
        lambda v, e: 0.01 * (v["pressure"] - press) ** 2 + 0.05 * (v["cooling"] - cool) ** 2 + 0.04 * (v["melt"] - 220)
        + 30 * (v["moisture"] - 0.2) + 1.5 * e,
    )  # fmt: skip
    return d.process("moulding", "minimize")


def ventilation(rng: np.random.Generator) -> FunctionalSCM:
    """Fan power grows with the cube of its speed, discomfort falls with it; people open windows."""
    d = _Draft(rng)
    power, stuffy = d.near(1.0), d.near(30)
    d.seen("people", (), lambda v, e: 40 + 8 * e)
    d.lever("fan", 0, 100, 45, 4, {"people": 0.3})
    d.lever("chiller", 4, 18, 8, 0.6)
    d.lever("window", 0, 100, 15, 4, {"people": 0.2})
    d.seen(
        "co2",
        ("people", "fan", "window"),
        lambda v, e: 400 + 25 * v["people"] * np.exp(-(v["fan"] + v["window"]) / 60) + 20 * e,
    )
    d.seen(
        "cost", ("fan", "chiller", "co2", "window"),
        lambda v, e: power * 25 * (v["fan"] / 100) ** 3 + stuffy * expit((v["co2"] - 900) / 120)
        + 0.15 * (v["chiller"] - 11) ** 2 + 0.05 * v["window"] + 1.2 * e,
    )  # fmt: skip
    return d.process("ventilation", "minimize")


def field_crop(rng: np.random.Generator) -> FunctionalSCM:
    """Nitrogen gives until a plateau and is paid for; rain explains most of the harvest."""
    d = _Draft(rng)
    plateau, price = d.near(140), d.near(0.012)
    d.seen("rain", (), lambda v, e: 300 + 50 * e)
    d.lever("nitrogen", 0, 300, 60, 10)
    d.lever("sowing_day", 60, 130, 105, 4)
    d.lever("row_width", 10, 40, 25, 3)
    d.seen(
        "margin", ("rain", "nitrogen", "sowing_day"),
        lambda v, e: 8 * np.minimum(v["nitrogen"] / plateau, 1) - price * v["nitrogen"] + 0.03 * (v["rain"] - 300)
        - 0.002 * (v["sowing_day"] - 92) ** 2 + 0.7 * e,
    )  # fmt: skip
    return d.process("field crop", "maximize")


def tuned_line(rng: np.random.Generator) -> FunctionalSCM:
    """A line that stands where it should: every lever is within a spread or two of its best."""
    d = _Draft(rng)
    d.seen("batch", (), lambda v, e: e)
    for name in ("speed", "tension", "glue"):
        d.lever(name, 0, 100, 50 + 3 * float(rng.uniform(-1, 1)), 3)
    d.lever("lamp", 0, 100, 50, 10)
    d.seen(
        "scrap", ("batch", "speed", "tension", "glue"),
        lambda v, e: 3 + 0.004 * ((v["speed"] - 50) ** 2 + (v["tension"] - 50) ** 2 + (v["glue"] - 50) ** 2)
        + 0.8 * v["batch"] + 0.7 * e,
    )  # fmt: skip
    return d.process("tuned line", "minimize")


PROCESSES: tuple[Callable[[np.random.Generator], FunctionalSCM], ...] = (
    batch_reactor, side_product, mixer, greenhouse, boiler, queue, clinic, aeration, mill, column, oven, fermenter,
    moulding, ventilation, field_crop, tuned_line,
)  # fmt: skip
