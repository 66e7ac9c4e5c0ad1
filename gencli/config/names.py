"""Names that people type, and what they are called here: keys, options of groups, commands.

A word is looked up with its case folded and its signs (``-``, ``.``, `` ``) as ``_``. First comes the table of
synonyms, then what is called so here, then the near names among all keys and options. Nothing heavy is imported.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache

from gencli.config import catalog
from gencli.config.sections import PREPROCESSING
from gencli.core.errors import near

_KEYS = {
    "trainer.max_epochs": "epochs epoch n_epochs num_epochs nepochs max_epoch train_epochs num_train_epochs",
    "trainer.max_steps": "max_iter max_iters iters iterations n_iter n_iters num_iterations num_steps n_steps "
    "train_steps total_steps training_steps num_train_steps updates",
    "trainer.max_minutes": "minutes time time_limit timeout max_time budget",
    "trainer.batch_size": "bs batchsize batch minibatch train_batch_size mini_batch_size",
    "trainer.eval_batch_size": "test_batch_size val_batch_size",
    "trainer.accumulate": "accumulate_grad_batches gradient_accumulation_steps grad_accum accum_steps",
    "trainer.eval_every": "eval_interval val_interval val_every validate_every check_val_every_n_epoch "
    "val_check_interval eval_freq eval_steps",
    "trainer.log_every": "log_interval log_every_n_steps logging_steps log_freq print_every",
    "trainer.strategy": "fsdp ddp zero deepspeed sharding shard distributed",
    "trainer.precision": "amp fp16 bf16 mixed_precision dtype half",
    "trainer.compile": "torch_compile",
    "trainer.ema_decay": "ema ema_rate ema_beta use_ema decay_ema",
    "trainer.clip_norm": "grad_clip gradient_clip gradient_clip_val max_grad_norm clip_grad clip_grad_norm clip",
    "trainer.patience": "early_stopping early_stop",
    "trainer.workers": "num_workers n_workers dataloader_workers",
    "optimizer": "optim opt optimiser",
    "optimizer.lr": "learning_rate learningrate base_lr init_lr step_size alpha_lr eta_lr",
    "optimizer.weight_decay": "wd l2 decay weightdecay",
    "optimizer.schedule": "scheduler lr_scheduler lr_schedule lr_decay annealing",
    "optimizer.warmup_steps": "warmup warm_up num_warmup_steps",
    "optimizer.betas": "beta1 beta2 adam_betas b1 b2",
    "data": "dataset datasets dset data_name dataset_name task",
    "data.root": "data_dir data_path datadir dataroot data_root data_folder",
    "data.path": "file csv csv_path input filename train_file",
    "data.transform": "normalize normalise normalization standardize standardise preprocessing preprocess scaling "
    "logit",
    "data.dequantization": "dequantize dequantise dequant",
    "data.flip": "augment augmentation hflip random_flip horizontal_flip",
    "model": "arch architecture network_name model_name model_type",
    "model.conditional": "class_cond class_conditional cond conditioned condition num_classes n_classes labels",
    "model.latent": "latent_dim z_dim zdim nz latent_size n_latent latents dim_z code_dim bottleneck",
    "model.hidden": "hidden_dim hidden_size hidden_dims hidden_units n_hidden hidden_layers hidden_features units "
    "hidden_channels nh",
    "model.couplings": "n_flows num_flows flow_steps n_blocks num_blocks n_couplings coupling_layers num_layers_flow",
    "model.layers": "n_layers num_layers n_layer depth nlayers",
    "model.heads": "n_heads num_heads n_head nhead attention_heads",
    "model.width": "d_model embed_dim n_embd embedding_dim model_dim",
    "model.timesteps": "diffusion_steps num_timesteps num_diffusion_timesteps t_steps noise_steps",
    "model.components": "n_components num_components mixtures n_mixtures k_components",
    "objective": "loss criterion loss_fn loss_function training",
    "objective.beta": "kl_weight kl_coef beta_vae kld_weight",
    "sampler": "sample_method sampling decoder_sampler",
    "sampler.guidance": "cfg_scale guidance_scale cfg guidance_weight",
    "sampler.temperature": "temp sampling_temperature",
    "estimator": "evaluator likelihood nll log_likelihood measure",
    "metrics": "metric scores_of",
    "picture": "plot figure visualize visualise visualization viz show",
    "logger": "tracker logging log_to",
    "experiment": "recipe preset config cfg_name exp",
    "seed": "random_seed manual_seed rng random_state",
    "device": "gpu gpus cuda accelerator cpu use_gpu use_cuda no_cuda gpu_id devices mps",
    "run_dir": "output_dir out_dir outdir out output save_dir logdir log_dir checkpoint_dir results_dir "
    "dir workdir save_path",
    "resume": "resume_from resume_from_checkpoint continue ckpt_path from_checkpoint restart",
    "init_from": "pretrained finetune fine_tune init_checkpoint load load_from weights_from",
    "run": "run_path run_id model_path ckpt checkpoint_path",
    "n": "num_samples n_samples nsamples samples sample_size num_images n_images count number",
    "checkpoint": "epoch_to_load which_checkpoint",
    "format": "file_format ext extension output_format",
    "examples": "n_examples num_examples max_examples limit test_size subset",
}
"""What is called so here: its names elsewhere."""

_OPTIONS = {
    "model=generator objective=gan": "gan dcgan vanilla_gan ns_gan",
    "model=generator objective=wgan_gp": "wgangp wasserstein_gan",
    "model=nsf_coupling": "nsf neural_spline_flow neural_spline spline spline_flow rqs rq_nsf rqnsf "
    "coupling_nsf nsf_c rq_spline",
    "model=nsf_ar": "nsf_autoregressive rq_nsf_ar",
    "model=cnf": "ffjord neural_ode node continuous_flow",
    "model=transformer": "gpt gpt2 nanogpt mingpt llm language_model lm decoder_only",
    "model=realnvp": "real_nvp rnvp coupling affine_coupling coupling_flow flow normalizing_flow nf",
    "model=maf": "masked_autoregressive_flow autoregressive_flow",
    "model=iaf": "inverse_autoregressive_flow",
    "model=ddpm": "denoising_diffusion dpm",
    "model=diffusion": "score_sde sde score_based vp_sde vpsde ncsn ddpm_continuous sgm",
    "model=diffusion path@model.path=ve": "vesde ve_sde ncsnpp smld",
    "model=flow_matching": "fm cfm rectified_flow flowmatching conditional_flow_matching reflow_model otcfm ot_cfm",
    "model=vdm": "variational_diffusion variational_diffusion_model",
    "model=vae": "autoencoder variational_autoencoder vanilla_vae conv_vae ae",
    "model=vae objective.beta=4": "betavae beta_vae b_vae",
    "model=vae objective=iwae": "importance_weighted_autoencoder",
    "model=vae model.prior=vamp": "vampprior vamp_prior vampvae",
    "model=vae model.prior=energy": "lebm latent_ebm latent_energy latent_energy_prior energy_prior",
    "model=hvae": "nvae ladder_vae lvae hierarchical_vae vdvae",
    "model=pixelcnn": "pixel_cnn gated_pixelcnn pixelrnn",
    "model=pixelcnn_pp": "pixelcnn++ pixelcnnpp pixelcnnplusplus",
    "model=made": "nade masked_autoencoder",
    "model=ebm": "energy energy_based_model energy_model",
    "model=joint_ebm": "jem joint_energy joint_energy_based_model",
    "model=rbm": "boltzmann boltzmann_machine restricted_boltzmann_machine",
    "model=gmm": "mog mixture mixture_of_gaussians gaussian_mixture",
    "model=ppca": "pca factor_analysis",
    "model=gaussian": "normal mvn multivariate_normal",
    "model=ngram": "bigram trigram n_gram markov",
    "model=ergm": "random_graph exponential_random_graph",
    "objective=nll": "mle maximum_likelihood ml log_prob",
    "objective=cross_entropy": "ce crossentropy",
    "objective=reverse_kl": "rkl variational_inference boltzmann_generator",
    "objective=dsm": "denoising_score_matching_single",
    "objective=denoise": "eps_prediction mse simple_loss",
    "estimator=exact": "likelihood log_likelihood exact_likelihood",
    "estimator=iwae": "importance_weighted",
    "estimator=ais": "annealed_importance_sampling",
    "metrics=[classification]": "accuracy ece calibration_error",
    "metrics=[ood]": "auroc out_of_distribution",
    "metrics=[fid]": "frechet frechet_inception_distance",
    "metrics=[mmd]": "maximum_mean_discrepancy",
    "metrics=[restoration]": "psnr ssim peak_signal_noise_ratio",
    "data=tinyshakespeare": "shakespeare tiny_shakespeare",
    "data=moons": "two_moons twomoons make_moons half_moons",
    "data=cifar10": "cifar cifar_10",
    "data=fashion_mnist": "fashion fashionmnist fmnist",
    "data=binarized_mnist": "bmnist binary_mnist static_mnist",
    "data=csv": "tabular table dataframe pandas parquet tsv",
    "data=array": "npz numpy npy",
    "data=image_folder": "images imagefolder folder",
    "data=text_file": "text txt",
    "data=graph": "graphml gml edgelist",
    "data=eight_gaussians": "8gaussians 8_gaussians ring_of_gaussians",
    "data=twentyfive_gaussians": "25gaussians 25_gaussians grid_of_gaussians",
    "data=swissroll": "swiss_roll make_swiss_roll",
    "sampler=dpm_solver": "dpmsolver dpmpp dpm_solver_pp",
    "sampler=euler_maruyama": "sde_sampler em",
    "sampler=edm": "heun karras",
    "sampler=hmc": "nuts hamiltonian",
    "sampler=restore": "restoration inverse_problem inverse plug_and_play pnp dps pigdm ddrm",
    "optimizer=adamw": "adam_w",
    "logger=tensorboard": "tb tensor_board",
}
"""What is chosen so here: its names elsewhere."""

_VERBS = {
    "train": "fit run learn training start",
    "sample": "generate gen draw samples inference predict plot",
    "eval": "evaluate test validate score measure nll evaluation",
    "list": "models options help_list show catalog info available",
    "ls": "runs status history",
    "compare": "diff table rank leaderboard results",
    "report": "html page dashboard",
    "card": "modelcard model_card",
}


def folded(word: str) -> str:
    """A word as it is looked up.

    Example:
        >>> folded("--Latent-Dim")
        'latent_dim'
    """
    return re.sub(r"[-.\s]+", "_", word.lstrip("-+~ ").rstrip().lower())


def _turned(table: Mapping[str, str]) -> dict[str, str]:
    return {folded(name): ours for ours, names in table.items() for name in names.split()}


KEYS, OPTIONS, VERBS = _turned(_KEYS), _turned(_OPTIONS), _turned(_VERBS)


SECTIONS = {
    "train": ("trainer", "optimizer", "model", "data", "objective", "sampler", "estimator"),
    "sample": ("sampler", "picture", "data"),
    "eval": ("estimator", "sampler", "data"),
}
"""Groups whose keys a command may change."""

_CHOSEN = {
    "train": tuple(group for group in catalog.GROUPS if group not in ("picture", "metric")),
    "sample": ("sampler", "picture", "kernel"),
    "eval": ("estimator", "sampler", "metrics", "metric", "kernel"),
}
"""Groups of which a command may choose an option."""


@cache
def leaves(verb: str) -> dict[str, tuple[str, ...]]:
    """Every key that a command may have, by its last name and the least nested first: ``lr`` -> ``optimizer.lr``."""
    found: dict[str, dict[str, None]] = {}
    for key in catalog.primary(verb):
        if key not in ("defaults", *catalog.GROUPS):
            found.setdefault(key, {}).setdefault(key)
    for group in SECTIONS[verb]:
        shared = ("root", *PREPROCESSING) if group == "data" else ()
        for key in (*shared, *(key for option in catalog.options(group).values() for key in option.keys)):
            inner = key.rpartition(".")[2]
            if inner != "_target_":
                found.setdefault(inner, {}).setdefault(f"{group}.{key}")
    return {name: tuple(sorted(keys, key=lambda key: key.count("."))) for name, keys in found.items()}


@cache
def options() -> dict[str, tuple[str, ...]]:
    """Every option by its name, as it is chosen: ``maf`` -> ``model=maf``."""
    found: dict[str, list[str]] = {}
    for group in catalog.groups():
        for name in catalog.options(group):
            found.setdefault(folded(name), []).append(chosen(group, name))
    return {name: tuple(choices) for name, choices in found.items()}


def chosen(group: str, name: str) -> str:
    """How an option is chosen on the command line.

    Example:
        >>> chosen("net", "mlp"), chosen("metric", "fid"), chosen("model", "maf")
        ('net@model.net=mlp', 'metrics=[fid]', 'model=maf')
    """
    inner = {"net": "net@model.net", "path": "path@model.path", "kernel": "kernel@sampler.kernel"}
    return f"metrics=[{name}]" if group == "metric" else f"{inner.get(group, group)}={name}"


def keys_for(word: str, value: str = "", verb: str = "train", *, fuzzy: bool = False) -> list[str]:
    """What a key that is not there may have meant: full keys, with the value where one was given.

    Args:
        word: the key.
        value: what it was given.
        verb: the command.
        fuzzy: whether names that are only near count, where none is called so.

    Example:
        >>> keys_for("learning_rate", "1e-3"), keys_for("epochs", "3"), keys_for("num_samples", "9", "sample")
        (['optimizer.lr=1e-3'], ['trainer.max_epochs=3'], ['n=9'])
    """
    section, _, last = word.lstrip("-+~ ").rpartition(".")
    name, known = folded(last), leaves(verb)
    if not section and (group := group_of(name)):
        return [chosen(group, value or "...")]
    if not section and (group := KEYS.get(name, "")) in _CHOSEN[verb]:  # dataset=MNIST
        return choices_for(value, group, verb) or [f"{group}={value or '...'}"]
    found = list(known.get(name, ()))
    if name in KEYS and (not found or len(found) > 2):
        found = [KEYS[name]]
    found = _as_written(name, value, [key for key in found if key.startswith(f"{section}.")] or found)
    found = _allowed(found, verb)
    if not found and fuzzy:
        matches = difflib.get_close_matches(name, {*known, *KEYS}, n=2, cutoff=0.75)
        found = list(dict.fromkeys(key for match in matches for key in (known.get(match) or (KEYS[match],))[:2]))
        found = _allowed(found, verb)
    return [key if "=" in key or not value else f"{key}={value}" for key in found if key != word][:3]


def _allowed(found: Iterable[str], verb: str) -> list[str]:
    """Those that a command takes; a run is named by ``resume`` where a training goes on with it."""
    known = {*leaves(verb), *SECTIONS[verb], *_CHOSEN[verb]}
    found = ["resume" if key == "run" and verb == "train" else key for key in found]
    return [key for key in found if re.split(r"[.=]", key)[0] in known]


def no_such_key(full: str, value: str, siblings: Collection[str], verb: str = "train") -> str:
    """The one line that refuses a key.

    Args:
        full: the key.
        value: what it was given.
        siblings: the keys that are there in its section; one of them that is near goes before those of elsewhere.
        verb: the command.
    """
    parent, _, key = full.rpartition(".")
    start = f"{full}: there is no such key{f' in {parent}' if parent else ''}."
    if group := _left_open(full):
        return f"{full}: a {group} stands here if one is chosen: {group}@{full}=NAME (gencli list {group})"
    found, here = keys_for(full, value, verb), difflib.get_close_matches(key, siblings, 1, 0.8) if parent else []
    if found and (found[0].startswith(f"{parent}.") or not here):
        return f"{start} {meant(found)}"
    beside = near(key, siblings)
    if having := _having(full):
        return f"{start} {having} {beside if beside.startswith('Did') else ''}".rstrip()
    if not beside.startswith("Did") and (found := keys_for(full, value, verb, fuzzy=True)):
        return f"{start} {meant(found)}"
    return f"{start} {beside}".rstrip()


def _left_open(full: str) -> str | None:
    """The group of which an option may stand at a key, and none does by itself."""
    owner, _, at = full.partition(".")
    options = catalog.options(owner).values() if at else ()
    return next((option.nested[at] for option in options if at in option.nested and not option.held.get(at)), None)


def _having(full: str) -> str:
    """Which options of a group have a key that the chosen one lacks."""
    group, _, key = full.partition(".")
    names = [name for name, option in catalog.options(group).items() if key in option.keys] if key else []
    return f"It belongs to {', '.join(chosen(group, name) for name in names)}." if names else ""


def group_of(name: str) -> str | None:
    """The group that a word names, in singular or plural."""
    return next((group for group in catalog.GROUPS if name in (group, f"{group}s")), None)


def _as_written(name: str, value: str, found: list[str]) -> list[str]:
    """Switches whose name is the value here: ``fp16=true`` is a precision, ``gpu=1`` a device."""
    if found in (["trainer.precision"], ["trainer.strategy"]) and name in ("fp16", "bf16", "ddp", "fsdp"):
        return [f"{found[0]}={name}"]
    if found == ["trainer.precision"]:
        return ["trainer.precision=bf16"]
    if found == ["device"]:
        number = f":{value}" if value.isdecimal() and name == "gpu_id" else ""
        return [f"device={'cpu' if name in ('cpu', 'no_cuda') else 'mps' if name == 'mps' else 'cuda'}{number}"]
    return found


def choices_for(word: str, group: str | None = None, verb: str = "train") -> list[str]:
    """What an option that is not there may have meant, in its group or in another that the command takes.

    Example:
        >>> choices_for("ffjord"), choices_for("gan", "model"), choices_for("my.npz", "data")
        (['model=cnf'], ['model=generator objective=gan'], ['data=array data.path=my.npz'])
    """
    name, (_, dot, ending) = folded(word), word.rpartition(".")
    if group == "data" and dot and (kind := choices_for(ending, group)):  # data=table.csv
        return [f"{kind[0]} data.path={word}"]
    same = [choice for choice in options().get(name, ()) if re.split("[=@]", choice)[0] in _CHOSEN[verb]]
    own = [choice for choice in same if group is None or choice.startswith((f"{group}=", f"{group}@"))]
    if own:
        return _by_place(own)
    if name in OPTIONS and re.split("[=@]", OPTIONS[name])[0] in _CHOSEN[verb]:
        return [OPTIONS[name]]
    if same:
        return _by_place(same)
    if verb != "train":
        return []
    squeezed = {name.replace("_", ""): choice for name, choice in OPTIONS.items()}
    squeezed |= {name.replace("_", ""): choice for name, choices in options().items() for choice in choices[:1]}
    if name.replace("_", "") in squeezed:
        return [squeezed[name.replace("_", "")]]
    if group is None:
        close = difflib.get_close_matches(name, {*OPTIONS, *options()}, n=2, cutoff=0.75)
        return list(dict.fromkeys(OPTIONS.get(match) or options()[match][0] for match in close))
    return []


def _by_place(choices: Iterable[str]) -> list[str]:
    order = [chosen(group, "") for group in catalog.GROUPS]
    return sorted(choices, key=lambda choice: next((k for k, o in enumerate(order) if choice.startswith(o)), 99))


def no_such_verb(word: str, verbs: Iterable[str]) -> str:
    """The one line that refuses a command."""
    start = f"'{word}' is no command of gencli."
    if "=" in word:
        return f"{start} Did you mean gencli train {word}?"
    if verb := VERBS.get(folded(word)):
        return f"{start} Did you mean gencli {verb}?"
    beside = near(word, verbs)
    choices = [] if beside.startswith("Did") else choices_for(word)
    return f"{start} {meant(f'gencli train {choice}' for choice in choices) or beside}"


def meant(found: Iterable[str]) -> str:
    """The sentence that offers them; empty where there are none."""
    return f"Did you mean {told}?" if (told := " or ".join(found)) else ""


def bare(word: str, verb: str = "train", following: str | None = None) -> list[str]:
    """What a word without ``=`` may have meant: an option, a run, or a key whose value follows."""
    if verb != "train" and (word == "latest" or "/" in word):
        return [f"run={word}"]
    return ([] if group_of(folded(word)) else choices_for(word, None, verb)) or flag(word, following, verb)


def flag(word: str, following: str | None, verb: str = "train") -> list[str]:
    """What a flag of other tools, ``--model realnvp`` or ``--lr=1e-3``, is here; and a key of ours as a flag."""
    name, sign, value = word.lstrip("-").partition("=")
    if not sign and following is not None and "=" not in following and not following.startswith("-"):
        value = following
    if group := group_of(folded(name)):
        return choices_for(value, group, verb) or [chosen(group, value or "...")]
    key = name.replace("-", "_")
    if key in itertools.chain(*leaves(verb).values()):
        return [f"{key}={value or '...'}"]
    found = keys_for(name, value, verb, fuzzy=True)
    return [key if "=" in key else f"{key}=..." for key in found] or (
        choices_for(name, None, verb) if not value else []
    )
