"""What people type who come from other tools is answered in one line, with the key or the name that it has here."""

import pytest

from gencli.cli import main as cli
from gencli.config import names
from gencli.core.errors import UsageError, near

TRAIN = """
lr=1e-3                         | optimizer.lr=1e-3
learning_rate=1e-3              | optimizer.lr=1e-3
model.lr=1e-3                   | optimizer.lr=1e-3
trainer.lr=1e-3                 | optimizer.lr=1e-3
weight_decay=0.1                | optimizer.weight_decay=0.1
wd=0.1                          | optimizer.weight_decay=0.1
optim=adam                      | optimizer=adam
scheduler=cosine                | optimizer.schedule=cosine
warmup_steps=10                 | optimizer.warmup_steps=10
batch_size=64                   | trainer.batch_size=64
bs=64                           | trainer.batch_size=64
Batch-Size=64                   | trainer.batch_size=64
epochs=10                       | trainer.max_epochs=10
num_epochs=10                   | trainer.max_epochs=10
max_steps=10                    | trainer.max_steps=10
iterations=10                   | trainer.max_steps=10
max_minutes=10                  | trainer.max_minutes=10
patience=3                      | trainer.patience=3
grad_clip=1                     | trainer.clip_norm=1
ema=0.99                        | trainer.ema_decay=0.99
fp16=true                       | trainer.precision=fp16
amp=true                        | trainer.precision=bf16
num_workers=4                   | trainer.workers=4
early_stopping=5                | trainer.patience=5
val_interval=5                  | trainer.eval_every=5
num_samples=16                  | n=16
n_samples=16                    | n=16
random_seed=1                   | seed=1
gpu=0                           | device=cuda
cuda=true                       | device=cuda
output_dir=x                    | run_dir=x
ckpt_path=x                     | resume=x
pretrained=x                    | init_from=x
dataset=Moons                   | data=moons
data_dir=x                      | data.root=x
csv_path=x                      | data.path=x
normalize=standardize           | data.transform=standardize
latent_dim=8                    | model.latent=8
z_dim=8                         | model.latent=8
hidden_dim=64                   | model.hidden=64
num_layers=4                    | model.layers=4
n_heads=4                       | model.heads=4
d_model=64                      | model.width=64
n_flows=4                       | model.couplings=4
class_cond=true                 | model.conditional=true
timesteps=100                   | model.timesteps=100
loss=nll                        | objective=nll
kl_weight=4                     | objective.beta=4
architecture=maf                | model=maf
model=gan                       | model=generator objective=gan
model=wgan                      | objective=wgan
model=nsf                       | model=nsf_coupling
model=ffjord                    | model=cnf
model=gpt                       | model=transformer
model=DDPM                      | model=ddpm
model=RealNVP                   | model=realnvp
model=real-nvp                  | model=realnvp
model=pixelcnn++                | model=pixelcnn_pp
model=normalizing_flow          | model=realnvp
model=score_sde                 | model=diffusion
model=rectified_flow            | model=flow_matching
model=beta_vae                  | model=vae objective.beta=4
model=energy                    | model=ebm
model=mfa                       | 'maf'
data=MNIST                      | data=mnist
data=cifar                      | data=cifar10
data=two_moons                  | data=moons
data=shakespeare                | data=tinyshakespeare
data=realnvp                    | model=realnvp
objective=mle                   | objective=nll
optimizer=AdamW                 | optimizer=adamw
modle=maf                       | 'model'
trainer.max_step=3              | 'max_steps'
optimizer.momentum=0.9          | optimizer=sgd
realnvp                         | model=realnvp
MAF                             | model=maf
moons                           | data=moons
--model realnvp                 | model=realnvp
--model=RealNVP                 | model=realnvp
--lr 1e-3                       | optimizer.lr=1e-3
--epochs=10                     | trainer.max_epochs=10
--batch-size 64                 | trainer.batch_size=64
--dataset moons                 | data=moons
--gpu 0                         | device=cuda
--seed 3                        | mean seed=3?
--device cpu                    | device=cpu
--run-dir runs/a                | run_dir=runs/a
--trainer.max_steps 3           | trainer.max_steps=3
--resume=latest                 | resume=latest
model                           | model=...
model maf                       | model=maf
model = maf                     | model=maf
lr 1e-3                         | optimizer.lr=1e-3
seed 3                          | mean seed=3?
data=table.csv                  | data=csv data.path=table.csv
data=my/table.tsv               | data=csv data.path=my/table.tsv
data=x.npz                      | data=array data.path=x.npz
dataset=book.txt                | data=text_file data.path=book.txt
"""

OTHERS = """
sample num_samples=9            | n=9
sample temperature=0.8          | sampler.temperature=0.8
sample guidance_scale=2         | sampler.guidance=2
sample plot=latent              | picture=latent
sample batch=9                  | batch_size
sample --n                      | n=...
sample latest                   | run=latest
eval n_examples=9               | examples=9
eval k=100                      | estimator.k=100
eval latest                     | run=latest
"""


def cases(text):
    return [tuple(part.strip() for part in line.split("|")) for line in text.strip().splitlines()]


def test_there_are_enough_of_them():
    assert len(cases(TRAIN)) >= 60


def answered(words):
    """What the refusal says, without the composing that leads to it."""
    typed = words[0]
    if typed.startswith("--"):
        return names.meant(names.flag(typed, words[1] if len(words) > 1 else None))
    key, sign, value = typed.partition("=")
    if not sign:
        following = next((word for word in words[1:] if word != "="), None)
        return names.meant(names.bare(typed, following=following))
    if key in names.catalog.GROUPS:
        return names.meant(names.choices_for(value, key)) or near(value, names.catalog.options(key))
    section, _, _ = key.rpartition(".")
    beside = names.catalog.options(section)["default" if section == "trainer" else "adamw"].keys if section else ()
    return names.no_such_key(key, value, beside or names.catalog.GROUPS)


def test_a_near_key_of_its_own_section_goes_before_one_of_elsewhere():
    assert "Did you mean 'times'?" in names.no_such_key("objective.time", "logit_normal", ["times", "passes"])
    assert "trainer.max_minutes=3" in names.no_such_key("objective.time", "3", ["weight"])


@pytest.mark.parametrize(("typed", "answer"), cases(TRAIN))
def test_the_name_it_has_here(typed, answer):
    if not typed.startswith("model."):
        assert answer in answered(typed.split())


@pytest.mark.slow
@pytest.mark.parametrize(("typed", "answer"), [*cases(TRAIN)[::4], ("model = maf", "model=maf")])
def test_training_answers_with_it(ran, capsys, typed, answer):
    assert cli.main(["train", *typed.split()]) == 2
    error = capsys.readouterr().err
    assert answer in error
    assert len(error.strip().splitlines()) == 1
    assert ran == []


@pytest.mark.parametrize(("typed", "answer"), cases(OTHERS))
def test_so_do_sample_and_eval(ran, run, capsys, typed, answer):
    verb, word = typed.split()
    assert cli.main([verb, f"run='{run}'", "trust=[toyzoo]", word]) == 2
    error = capsys.readouterr().err
    assert answer in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["fit"], "gencli train"),
        (["generate", "run=x"], "gencli sample"),
        (["evaluate"], "gencli eval"),
        (["maf"], "gencli train model=maf"),
        (["model=maf"], "gencli train model=maf"),
        (["list", "maf"], "gencli list model maf"),
        (["list", "models"], "gencli list model"),
        (["list", "model", "FFJORD"], "gencli list model cnf"),
        (["list", "net", "--matrix"], "--matrix"),
    ],
)
def test_a_wrong_command_too(capsys, words, answer):
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert answer in error
    assert len(error.strip().splitlines()) == 1


def test_every_synonym_leads_to_a_key_or_an_option_that_is_there():
    known = {key for verb in names.SECTIONS for keys in names.leaves(verb).values() for key in keys}
    for key in {*names.KEYS.values()} - {"trainer.max_epochs"}:
        assert key in known or key in (*names.catalog.GROUPS, "metrics"), key
    for choice in {*names.OPTIONS.values()}:
        for word in choice.split():
            group, _, _ = word.partition("=")
            assert "." in group or word in {o for found in names.options().values() for o in found}, word
    assert not {*names.KEYS} & {*names.catalog.GROUPS} - {"metric"}


def test_what_is_called_so_here_is_not_taken_for_a_synonym():
    """An answer never leads away from a name that is right."""
    for group in ("model", "data", "objective", "sampler", "estimator", "optimizer"):
        for name in names.catalog.options(group):
            assert names.choices_for(name, group, "eval" if group in ("sampler", "estimator") else "train")[0] == (
                names.chosen(group, name)
            )


def test_info_takes_no_override_for_its_value(ran):
    words = ["--info", "model=maf", "-m"]
    assert names.flag("--verbose", None) == []
    from hydra._internal.utils import get_args_parser

    from gencli.config.command import _words

    assert _words("train", words, get_args_parser()) == ["--info=all", "model=maf", "-m"]
    assert _words("train", ["model=maf", "--info"], get_args_parser()) == ["model=maf", "--info=all"]
    with pytest.raises(UsageError, match=r"model=realnvp"):
        _words("train", ["--model", "realnvp"], get_args_parser())
    with pytest.raises(UsageError, match=r"Did you mean run=latest\?"):
        _words("sample", ["--run=latest"], get_args_parser())  # --run alone is a flag of Hydra's
