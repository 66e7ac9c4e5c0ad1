"""The help pages, and a parser of flags that refuses in one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from gencli.core.errors import UsageError


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, where argparse would print its usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


MAIN = """\
gencli: train deep generative models and compare them by held-out likelihood

  gencli train   [group=choice ...] [key=value ...] [-m]
                 train, evaluate on held-out data, draw samples
  gencli sample  run=RUN [n=64] [key=value ...]
                 draw from a trained model, or make a picture of it
  gencli eval    run=RUN [estimator=...] [metrics=[...]]
                 measure held-out likelihood, and samples, of a trained model
  gencli list    [GROUP [NAME]]      what exists, and what fits what
  gencli ls      [FOLDER ...]        the runs that are here, with their numbers
  gencli compare RUN|GLOB ...        runs side by side, ranked where they may be
  gencli report  RUN|GLOB ...        a page of runs for the browser, in one file
  gencli card    RUN                 a model card for Hugging Face's hub

  gencli VERB --help           more about a verb
  gencli --version
  gencli --completion SHELL    a completion script for bash, zsh or fish
  GENCLI_TRACEBACK=1 gencli .. where an error comes from, besides what it says

Start with
  gencli train                        RealNVP on embedded digits: a CPU minute
  gencli train model=maf data=moons   any model, any data
  gencli sample run=latest n=100
  gencli list model maf               all about one model
"""

TRAIN = """\
gencli train [group=choice ...] [key=value ...]

Train a model, measure its likelihood on held-out data, draw samples. Everything
goes to one run folder, outputs/<model>-<data>/<date>_<time>/, which is named in
the last lines with the commands to try next.

Choose parts (gencli list shows all):
  model=realnvp data=digits   enough: a model brings its objective, sampler,
                              estimator and network
  experiment=NAME             a recipe: overrides with the figure they reached
  objective= sampler= estimator= optimizer= trainer= logger=

Parts within parts are chosen by where they stand:
  net@model.net=mlp                 the network of a model
  net@model.context=pyramid         features of a conditional model's context
  net@objective.critic=mlp          the critic of an adversarial objective
  path@model.path=ve                the path of a diffusion
  kernel@objective.kernel=gibbs     the chains of cd, pcd, mcmc_mle
  kernel@sampler.kernel=mala        those of sampler=chain
  kernel@estimator.kernel=hmc       those of ais, smc, bridge

Set values; the names are those that --cfg job prints:
  seed=0 device=auto run_dir=PATH n=64
  trainer.max_steps=3000 trainer.max_minutes=10 trainer.max_epochs=20
                                    training ends at whichever comes first
  trainer.eval_minutes=5            the most that the final measurement takes
  trainer.batch_size=128 trainer.eval_every=200 trainer.precision=auto
  trainer.compile=true trainer.ema_decay=0.999 optimizer.lr=1e-3
  data.root=PATH data.path=FILE model.conditional=true
  logger=tensorboard                or none, or several: [tensorboard,MINE]

Go on with a run that was stopped, with its own config:
  gencli train resume=RUN [trainer.max_steps=9000]

Begin a new run with another's weights (fine-tuning); all but the model may be
changed:
  gencli train init_from=RUN [data.path=FILE] [trainer.max_steps=500]
               [optimizer.lr=1e-4] [weights=raw]

Sweep: one run for each combination, each in a process of its own, in
outputs/sweeps/<date>_<time>/<job>/:
  gencli train -m model=maf,realnvp seed=0,1,2
  gencli train -m 'model=glob(*)' sweep.workers=4 sweep.minutes=30
               sweep.memory=8 sweep.on_fail=stop
The same command again goes on with a sweep that was stopped; with
sweep.dir=FOLDER, with the sweep of that folder. On a cluster:
hydra/launcher=submitit_slurm. A search proposes the values itself:
  gencli train -m model=maf 'optimizer.lr=tag(log,interval(1e-4,1e-2))'
               search=tpe search.trials=30

Look without running:
  --cfg job [--resolve]   the config as it would be
  --info                  where it comes from
  --config-dir DIR        your own options; their classes need trust=[package]
  --hydra-help            more flags, those of Hydra

Exit code: 0 done, 2 the command is wrong or another process trains this run,
1 the run failed, 130, 143 or 129 stopped by SIGINT, SIGTERM or SIGHUP after
saving a checkpoint. Of a sweep: 2 if all jobs were refused, 1 if any is not
done.
"""

SAMPLE = """\
gencli sample run=RUN [key=value ...]

Draw from a trained model; writes samples/<name>.npz (data units) and a picture
of them in the run folder. The name is name=NAME, or tells the sampler, the
options that are not the run's, and the seed.

  run=RUN            a run folder, a checkpoint in it, or latest
  n=64 seed=0        how many; sample 17 of a seed is the same whatever n is
  sampler=NAME       another way to draw (gencli list sampler)
  sampler.KEY=VALUE  its options, such as sampler.temperature=0.8
  kernel@sampler.kernel=NAME    the kernel of sampler=chain (gencli list kernel)
  format=FORMAT      csv, parquet, npz, png (a folder of images) or txt, or a
                     list of these: only these are written
  picture=NAME       another picture of the run instead (gencli list picture)
  picture.KEY=VALUE  its options
  style.format=svg   how pictures look: png, svg or pdf; style.theme=dark
                     style.dpi=300 style.scale=1.5
  weights=ema|raw checkpoint=best|last|PATH device=auto batch_size=N name=NAME
  trust=[package]
  -m                 sweep, such as -m run=A,B sampler.temperature=0.7,1

Of a conditional model:
  sampler.classes=[3,cat]   classes by number or name, in turn
  sampler.context=[0.1,2]   a context vector for all samples; a list of them
                            goes in turn
  context=FILE              csv, parquet, npy or npz: a class or a context
                            vector a row
"""

EVAL = """\
gencli eval run=RUN [estimator=...] [metrics=[...]] [split=test] [key=value ...]

Measure the negative log-likelihood of held-out data under a trained model, in
nats and bits a dimension of data space. Writes eval/<split>-<estimator>.json in
the run folder, with the bound and the standard errors; what is not the run's
own way of measuring joins the name: eval/test-exact-examples=50-raw.json.

  run=RUN              a run folder, a checkpoint in it, or latest
  estimator=NAME       how to measure (gencli list estimator)
  estimator.KEY=VALUE  its options, such as estimator.draws=4
  kernel@estimator.kernel=NAME   the kernel of ais, smc, bridge, path_sampling
  split=test           train, val, test, or all rows of the file data.path=FILE
  scores=OUT.csv       nats and rank of every row, in the order of the file; or
                       OUT.parquet
  weights=ema|raw checkpoint=best|last|PATH device=auto seed=0 batch_size=N
  data.root=PATH trust=[package]
  -m                   sweep, such as -m run=A,B estimator.draws=1,8

Compare samples with the split too (gencli list metric); each metric writes
eval/<split>-<metric>.json:
  metrics=[mmd,c2st]   besides the likelihood; a model without one (a generator)
                       needs none
  estimator=null       metrics only
  metrics.mmd.KEY=VALUE   a metric's options: metrics.precision_recall.k=3
  n=N                  samples; null: as many as the split has examples, 10,000
                       at most
  sampler=NAME sampler.KEY=VALUE   how they are drawn: sampler.temperature=0.8
The training split plays no part unless it is named: split=train, or fit=train
of the metrics with a classifier.

Exit code 1 if an example has a likelihood that is not finite: it is counted,
never dropped.
"""

LIST = """\
gencli list [GROUP [NAME]] [--matrix] [--config-dir DIR]

  gencli list                   every group and its options
  gencli list model             one group: what each option supports or requires
  gencli list model maf         all of one: its documentation, keys with
                                default, range and meaning, an example, what
                                fits it, and recipes with the figure reached
  gencli list model --matrix    models down, parts that work with them across
  --config-dir DIR              your own options too
"""

COMPARE = """\
gencli compare RUN|GLOB ... [--split test] [--all]
               [--group-by KEYS [--best validation]]
               [--importance] [--csv | --json | --markdown | --latex]

Runs side by side. Rows are ranked only where data, split, unit and protocol are
the same; the others are shown apart, with the field that differs. Differences
to the best are paired over the same examples. Each run counts by its own NLL;
--all adds other measurements: fewer examples, other settings, weights, data.

With --group-by, runs that differ in their seed alone are one row: the mean, its
errors over examples and over seeds apart, the paired difference to the best,
and its p value adjusted for the number of comparisons (Holm).
  --group-by config               each configuration
  --group-by model,optimizer.lr   each value of these keys; runs may differ in
                                  nothing else but the seed, or
  --best validation               the configuration with the best NLL on the
                                  validation split stands for its value
  --importance                    which keys of a sweep matter, in place of a
                                  table of runs (20 configurations at least)

  gencli compare outputs/*-digits/*
  gencli compare outputs/sweeps/2026-01-31_12-00-00 --csv
"""

LS = """\
gencli ls [FOLDER ...] [--all] [--json]

The runs below outputs/ or the folders, the newest last: model, data, held-out
NLL with its bound, steps, status.
  --all     not only the newest 30
  --json    all of them, for programs
"""

CARD = """\
gencli card RUN > README.md

A model card: Markdown under the YAML head that Hugging Face's hub reads
(model-index), from the records on the test split alone: number, bound in words,
errors, protocol, fingerprint of the data, how to open the run. RUN may be
latest.
"""

REPORT = """\
gencli report RUN|GLOB ... [--out FILE] [--split test]

One self-contained HTML page: numbers and bounds in words, curves, samples,
configs; of several runs a table of seeds and configurations, plots by
hyper-parameter, what differs. It opens without a network and runs no script.
Written to report.html in the run folder, in the sweep folder, or here.

  gencli report latest
  gencli report outputs/sweeps/2026-01-31_12-00-00 --out sweep.html
"""

PAGES = {
    "train": TRAIN,
    "sample": SAMPLE,
    "eval": EVAL,
    "list": LIST,
    "ls": LS,
    "compare": COMPARE,
    "report": REPORT,
    "card": CARD,
}
