"""Real experiments: the policy proposes one, a person does it and tells what came out.

`campaign` is the object that users have, `view` the part of it that only reads. `journal` is the
append-only file, `facts` what its entries mean, `rules` what may be written, `tables` reads
measurements as people have them and `workbooks` their spreadsheets, `predictions` asks the policy,
`calibration` makes its intervals right.

May import: the rooms above it up to training; not the arena.
"""
