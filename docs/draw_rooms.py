"""Draw docs/images/rooms.svg: the rooms of the code, and the data's way through them.

    python docs/draw_rooms.py

Plain SVG with real text; it follows the reader's colour scheme.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

OUT = Path(__file__).parent / "images" / "rooms.svg"
WIDTH, HEIGHT = 900, 490
STYLE = """
text { font: 14px system-ui, sans-serif; fill: #1a1a1a; }
.name { font-weight: 600; font-size: 16px; } .small { font-size: 12.5px; fill: #444; }
.data { font-size: 12.5px; fill: #0b5a8a; font-style: italic; }
rect { fill: #f4f6f8; stroke: #7a8794; } .twin { fill: #e8f1f8; stroke: #0b5a8a; }
.frame { fill: none; stroke: #0b5a8a; stroke-dasharray: 5 4; }
path { stroke: #0b5a8a; fill: none; stroke-width: 1.6; marker-end: url(#tip); }
marker path { fill: #0b5a8a; stroke: none; marker-end: none; }
@media (prefers-color-scheme: dark) {
  text { fill: #eee; } .small { fill: #bbb; } .data { fill: #8cc8f0; }
  rect { fill: #23282e; stroke: #8a97a4; } .twin { fill: #17303f; stroke: #8cc8f0; }
  .frame { stroke: #8cc8f0; } path { stroke: #8cc8f0; } marker path { fill: #8cc8f0; }
}
"""


def room(x: int, y: int, width: int, name: str, *lines: str, twin: bool = False) -> str:
    """A box with a name and small lines below it."""
    height = 34 + 17 * len(lines)
    parts = [f'<rect class="{"twin" if twin else ""}" x="{x}" y="{y}" width="{width}" height="{height}" rx="7"/>']
    parts.append(f'<text class="name" x="{x + 12}" y="{y + 22}">{escape(name)}</text>')
    for n, line in enumerate(lines):
        parts.append(f'<text class="small" x="{x + 12}" y="{y + 41 + 17 * n}">{escape(line)}</text>')
    return "".join(parts)


def arrow(points: str, label: str, x: int, y: int, anchor: str = "middle") -> str:
    """A line with a tip, and what travels along it."""
    return f'<path d="{points}"/><text class="data" x="{x}" y="{y}" text-anchor="{anchor}">{escape(label)}</text>'


def draw() -> str:
    """The figure as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-labelledby="title description">',
        '<title id="title">The rooms of acbo</title>',
        '<desc id="description">Systems give rows to the policy, the policy gives decisions to episodes in grpo, which '
        "gives new parameters back. A backend supplies these three rooms again. Training, the arena, campaigns and "
        "verification are written once and take a backend.</desc>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z"/></marker></defs>',
        '<rect class="frame" x="20" y="196" width="860" height="186" rx="10"/>',
        '<text class="small" x="34" y="218">three rooms that a backend supplies again, at the same paths: '
        "acbo_ref (NumPy), acbo_fast/jax, acbo_fast/numba</text>",
        room(40, 240, 200, "systems", "what is unknown:", "models, simulation,", "the best intervention", twin=True),
        room(350, 240, 200, "policy", "reads, thinks, decides:", "moments, pairs, network,", "heads, session", twin=True),
        room(660, 240, 200, "grpo", "one iteration of learning:", "rollout, loss, its gradient,", "Adam", twin=True),
        arrow("M240 268 H342", "rows", 293, 260),
        arrow("M550 268 H652", "decisions", 601, 260),
        arrow("M660 308 H558", "parameters", 609, 326),
        arrow("M760 325 V356 H140 V333", "do(X = v), on the same noise for a whole group", 450, 350),
        room(40, 40, 190, "training", "curriculum, run folders,", "checkpoints"),
        room(250, 40, 190, "arena", "suites, baselines, metrics,", "comparison"),
        room(460, 40, 190, "campaign", "journal, tables, what to do", "next in a real process"),
        room(670, 40, 190, "verify", "every gradient by hand,", "every backend against ref"),
        '<text class="small" x="40" y="24">written once; each takes a backend</text>',
        arrow("M135 108 V188", "systems of a stage", 144, 152, "start"),
        arrow("M345 108 V188", "unseen systems", 354, 152, "start"),
        arrow("M555 108 V188", "measured rows", 564, 152, "start"),
        arrow("M765 108 V188", "fixed data", 774, 152, "start"),
        room(40, 410, 820, "the ground", "errors, randomness (a pure function of seed, role and index), arrays, files, "
             "settings and config"),
        "</svg>\n",
    ]  # fmt: skip
    return "\n".join(parts)


if __name__ == "__main__":
    OUT.write_text(draw())
    print(f"written: {OUT.name}")
