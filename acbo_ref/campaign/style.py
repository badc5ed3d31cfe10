"""How the report of a campaign looks: on paper, on a phone and on a screen, light and dark.

Contract: text alone. Colours are variables, so that both schemes are one list each; every one of
INKS can be read on every one of PAPERS (tests/test_campaign_report.py computes the contrast).
"""

from __future__ import annotations

INKS = ("ink", "muted", "curve", "measured", "good", "nothing")
PAPERS = ("paper", "card", "domain")

_LIGHT = (
    "--paper: #ffffff; --card: #f4f6f8; --domain: #eef2f6; --ink: #1b1f23; --muted: #535b63; --line: #d4dae0; "
    "--curve: #0a58a6; --band: #9cc3ea; --measured: #a8390a; --good: #0b6b3e; --nothing: #5b4a86;"
)
_DARK = (
    "--paper: #14181c; --card: #1f252b; --domain: #1a2026; --ink: #e9edf1; --muted: #aab4be; --line: #39424b; "
    "--curve: #74b7f7; --band: #2f5f8e; --measured: #ff9d66; --good: #6fd3a0; --nothing: #c0b0ea;"
)

STYLE = f"""
:root {{ color-scheme: light dark; {_LIGHT} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
* {{ box-sizing: border-box; }}
body {{ font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto; max-width: 1240px;
  padding: 1rem; overflow-wrap: anywhere; }}
h1 {{ font-size: 1.5rem; line-height: 1.25; margin: .3rem 0 1rem; }}
h2 {{ font-size: 1.2rem; margin: 2.2rem 0 .3rem; }}
h3 {{ font-size: 1rem; margin: 0 0 .2rem; }}
p {{ margin: .3rem 0; max-width: 72ch; }}
.card {{ background: var(--card); border-left: 6px solid var(--muted); border-radius: 6px; padding: .9rem 1.1rem; }}
.card.good {{ border-color: var(--good); }}
.card h2 {{ font-size: 1.45rem; line-height: 1.25; margin: 0 0 .4rem; }}
.card dl {{ margin: .8rem 0 0; display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; }}
dt {{ color: var(--muted); }} dd {{ margin: 0; max-width: 72ch; }}
code {{ font-size: .9em; }}
.note, .legend, caption {{ color: var(--muted); font-size: .9rem; }}
.legend {{ display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; padding: 0; margin: .4rem 0 .8rem; list-style: none; }}
.legend li {{ display: flex; align-items: center; gap: .4rem; }}
.grid-of {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 1.2rem 1.6rem; }}
.beside {{ display: flex; flex-wrap: wrap; gap: 1.2rem 2.5rem; }} .beside > * {{ flex: 0 1 auto; max-width: 100%; }}
.beside > figure {{ flex: 1 1 340px; max-width: 460px; }}
figure {{ margin: 0; min-width: 0; max-width: 560px; }}
svg {{ display: block; width: 100%; height: auto; }}
svg.key {{ width: 22px; height: 16px; flex: none; }}
text {{ font: 12px system-ui, sans-serif; fill: var(--ink); }}
text.tick {{ fill: var(--muted); font-size: 11.5px; font-variant-numeric: tabular-nums; }}
text.axis {{ fill: var(--muted); }}
text.node {{ font-size: 13px; }}
text.nothing {{ fill: var(--nothing); }} text.limit {{ fill: var(--measured); }}
text.halo {{ paint-order: stroke; stroke: var(--domain); stroke-width: 4px; stroke-linejoin: round; stroke-dasharray: none; }}
.grid, .frame {{ fill: none; stroke: var(--line); }}
.domain {{ fill: var(--domain); }}
.band {{ fill: var(--band); fill-opacity: .75; }} .outcome {{ fill: var(--band); fill-opacity: .3; }}
.curve {{ fill: none; stroke: var(--curve); stroke-width: 2; }}
polyline.nothing, path.nothing {{ fill: none; stroke: var(--nothing); stroke-width: 1.6; stroke-dasharray: 6 4; }}
polyline.limit, path.limit {{ fill: none; stroke: var(--measured); stroke-width: 1.6; stroke-dasharray: 2 3; }}
.past {{ fill: var(--muted); fill-opacity: .75; }}
.alone {{ fill: var(--measured); stroke: var(--paper); stroke-width: 1; }}
.together {{ fill: none; stroke: var(--measured); stroke-width: 1.6; }}
.best {{ fill: none; stroke: var(--good); stroke-width: 2.5; }}
.recommended {{ fill: var(--good); }}
.cause, .perhaps {{ fill: none; stroke: var(--curve); }} .perhaps {{ stroke: var(--muted); stroke-opacity: .55; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }}
caption {{ text-align: left; padding: 0 0 .3rem; }}
th, td {{ padding: .3rem .7rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }}
th.number, td.number {{ text-align: right; }}
.number, .short {{ white-space: nowrap; }} .words {{ min-width: 14rem; }}
thead th {{ color: var(--muted); font-weight: 500; white-space: nowrap; }}
tbody th {{ position: sticky; left: 0; background: var(--paper); font-weight: 600; max-width: 40vw; }}
tr.abandoned {{ color: var(--muted); text-decoration: line-through; }}
@media print {{
  body {{ font-size: 11pt; padding: 0; max-width: none; }}
  .scroll {{ overflow: visible; }} tbody th {{ position: static; max-width: none; }} .words {{ min-width: 0; }}
  .short, thead th {{ white-space: normal; }} tbody th {{ overflow-wrap: normal; }} td.words {{ overflow-wrap: anywhere; }}
  table {{ font-size: 8.5pt; }} th, td {{ padding: .15rem .35rem; }}
  .grid-of {{ grid-template-columns: 1fr 1fr; }}
  figure, .card, tr {{ break-inside: avoid; }} h2 {{ break-after: avoid; }}
  * {{ print-color-adjust: exact; }}
}}
"""
