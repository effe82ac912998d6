"""Measurements: everything that compares, sweeps, benchmarks, plans or reproduces. Nothing that serves imports it.

Where a figure comes from. Every `snow` command below writes one JSON results file with `--out`; the files in
`benchmarks/results/` are such files, and `benchmarks/report.py` turns them into `benchmarks/REPORT.md` and
`docs/reproduction.md`. The line below each table names the command that measured it:

| command | measured by | laid out by |
| --- | --- | --- |
| `snow compare` | `compare.run_comparison` | `compare.markdown`, `plots.comparison` |
| `snow sweep` | `sweep.run_sweep` | `sweep.table`, `plots.sweep` |
| `snow lifelong` | `lifelong.run_lifelong` | `lifelong.forgetting_table`, `plots.forgetting` |
| `snow bench training` | `bench.training.measure_training` | `bench.training_table` |
| `snow bench serving` | `bench.serving.measure_serving` | `bench.serving.markdown` |
| `snow plan` | `plan.plan_replicas` | `plan.table`, `plots.plan` |
| `snow params` | `params.count_parameters` | the command itself |
| `snow reproduce NAME` | `reproduce/NAME.py`, `run` | the same file, `panels` and `body` |

`reproduce/paper.py` holds the paper's own figures. `results/` reads and writes results files with their provenance,
and `step_cost.py` times one training step for `compare`, `bench` and `reproduce` alike.
"""
