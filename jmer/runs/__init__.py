"""Training runs: how a model is fitted into a run directory, opened again, scored and used for prediction.

`directory` owns the layout of a run directory, and everything else asks it for paths. `fit` trains, `scoring` evaluates
on a split, and `predictor` answers for new dialogues. This folder may import every other folder of jmer; only the
commands at the top of `jmer/` import this folder. A new file of a run gets its name in `directory.RunDirectory`, and a
rule about which settings may change between two calls belongs in `changes`.
"""
