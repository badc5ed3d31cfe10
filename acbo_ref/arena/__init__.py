"""Methods compared on systems that nobody has seen.

`suites` are the systems, among them the `published` problems; `baselines` are the methods to beat.
`play` plays one method on one suite, `metrics` defines what is measured, `compare` runs all cells,
on the `workers`, and `store` keeps them. `analysis` reads folders back. `gym_env` offers the
problem to other software.

A new suite goes into `suites`, a new method into `baselines`. May import: everything up to and with
training.
"""
