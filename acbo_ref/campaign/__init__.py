"""Real experiments: the policy proposes one, a person does it and tells what came out.

`campaign` is the object that users have, `view` the part of it that only reads. `journal` is the
append-only file, `facts` what its entries mean, `rules` what may be written, `tables` reads
measurements as people have them and `workbooks` their spreadsheets. `predictions` asks the policy,
`curves` over whole domains and `caution` within bounds; `calibration` makes its intervals right.
`report` is the page about a campaign: `pictures` of it, drawn by `svg`, in a `style`. `words`
prints in terminals and notebooks.

May import: the rooms above it up to training; not the arena.
"""
