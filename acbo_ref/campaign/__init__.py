"""Real experiments: the policy proposes one, a person does it and tells what came out.

`campaign` is the object that users have, `view` the part of it that only reads, `beginning` its
first entries. `journal` is the append-only file, `facts` what its entries mean, `rules` what may be
written, `scales` how values lie; `tables` reads measurements as people have them, `workbooks` their
spreadsheets, and `exchange` whole campaigns; `doubts` finds what is hard to believe. `bounds` are
what a campaign keeps to and `ranges` what it warns of. `predictions` asks the policy, `asking`
chooses, `caution` within bounds, `settling` says what to settle on, `methods` lets others choose,
`curves` are over whole domains; `calibration` makes intervals right and `monitor` watches them.
`report` is the page about a campaign: `pictures` of it, drawn by `svg`, in a `style`. `words`
prints in terminals and notebooks.

May import: the rooms above it up to training; of the arena only the list of methods, by name.
"""
