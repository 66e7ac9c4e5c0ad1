"""Classes and functions that a config names."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import numpy as np

from hostile.base import ESCAPE, MARKUP, Case, Payload, Place, both, evil_package, merging, setting, verbs_of
from hostile.defaults import word

DANGEROUS: dict[str, dict] = {
    "os.system": {"command": "touch ran"},
    "posix.system": {"command": "touch ran"},
    "subprocess.run": {"args": ["touch", "ran"]},
    "subprocess.Popen": {"args": ["touch", "ran"]},
    "subprocess.check_output": {"args": "touch ran", "shell": True},
    "builtins.exec": {"_args_": ["open('ran', 'w')"]},
    "builtins.eval": {"_args_": ["open('ran', 'w')"]},
    "builtins.open": {"file": "ran", "mode": "w"},
    "torch.hub.load": {"repo_or_dir": "a/b", "model": "c"},
    "torch.load": {"f": "payload.pt", "weights_only": False},
    "torch.utils.collect_env.run": {"command": "touch ran"},
    "torch.utils.cpp_extension.load_inline": {"name": "x", "cpp_sources": "int x;"},
    "torch.package.PackageImporter": {"file_or_buffer": "payload.pt"},
    "torch.jit.load": {"f": "payload.pt"},
    "pandas.read_pickle": {"filepath_or_buffer": "payload.pkl"},
    "pandas.eval": {"expr": "@pd.io.common.os.system('touch ran')"},
    "joblib.load": {"filename": "payload.pkl"},
    "pickle.loads": {"_args_": ["cos\nsystem\n(S'touch ran'\ntR."]},
    "pickle.load": {"file": "payload.pkl"},
    "numpy.load": {"file": "payload.npy", "allow_pickle": True},
    "webbrowser.open": {"url": "http://127.0.0.1:9/"},
    "urllib.request.urlopen": {"url": "http://127.0.0.1:9/"},
    "urllib.request.urlretrieve": {"url": "file:///etc/hostname", "filename": "ran"},
    "runpy.run_path": {"path_name": "payload.py"},
    "importlib.import_module": {"name": "evil"},
    "shutil.rmtree": {"path": "."},
    "shutil.copy": {"src": "/etc/hostname", "dst": "ran"},
    "os.unlink": {"path": "outputs"},
    "logging.config.dictConfig": {"config": {"version": 1, "handlers": {"x": {"class": "logging.FileHandler"}}}},
    "logging.FileHandler": {"filename": "ran"},
    "ctypes.CDLL": {"name": "./payload.so"},
    "code.interact": {},
    "pty.spawn": {"argv": ["touch", "ran"]},
    "timeit.timeit": {"stmt": "open('ran', 'w')"},
    "hydra.utils.instantiate": {"config": {"_target_": "os.system", "_args_": ["touch ran"]}},
    "hydra.utils.call": {"config": {"_target_": "os.system", "command": "touch ran"}},
    "yaml.unsafe_load": {"stream": "!!python/object/apply:os.system ['touch ran']"},
    "evil.Model": {},
    "evil": {},
    "yaml": {},
}
ROUND = ("data", "objective", "sampler", "estimator", "model.net", "optimizer", "trainer", "logger", "choices")


def payloads(place: Place) -> None:
    """What dangerous callables would open, in the working directory."""
    evil_package(place.work, place.mark)
    (place.work / "payload.py").write_text("open('ran', 'w').close()\n")
    for name in ("payload.pkl", "payload.pt"):
        (place.work / name).write_bytes(pickle.dumps(Payload(place.mark)))
    with (place.work / "payload.npy").open("wb") as file:
        np.save(file, np.array([Payload(place.mark)], dtype=object), allow_pickle=True)


def _targets() -> Iterator[Case]:
    for k, (target, options) in enumerate(DANGEROUS.items()):
        node = {"_target_": target, **options}
        yield Case(f"target/model-{target}", both(payloads, setting("model", node)), (*verbs_of("model", k), "load"))
    for k, (target, options) in enumerate(DANGEROUS.items()):
        node = {"_target_": target, **options}
        section = ROUND[k % len(ROUND)]
        yield Case(f"target/{section}-{target}", both(payloads, setting(section, node)), verbs_of(section, k))
    for section, base in (
        ("model.run", "tilted"),
        ("model.net", "tilted"),
        ("objective.noise", "tilted"),
        ("estimator.base", "tilted"),
        ("objective.teacher", "student"),
        ("model.path", "field"),
        ("model.net.vector", "flow"),
        ("data.which", "flow"),
        ("sampler.classes", "flow"),
        ("trainer.precision", "flow"),
        ("choices.model", "flow"),
    ):
        for target in ("os.system", "evil.Model", "builtins.exec"):
            node = {"_target_": target, **DANGEROUS[target]}
            yield Case(f"target/{section}-{target}", both(payloads, setting(section, node)), verbs_of(section), base)


OWN = {
    "gencli.run.opened.Trained": {"path": "x", "trust": ["evil"]},
    "gencli.run.opened.opened": {"path": "x", "trust": ["evil"]},
    "gencli.run.run.Run": {"path": ".", "trust": ["evil"]},
    "gencli.run.folder.subprocess.run": {"args": ["touch", "ran"]},
    "gencli.run.build.component": {"node": {"_target_": "evil.Model"}, "trust": ["evil"]},
    "gencli.run.build.importlib.import_module": {"name": "evil"},
    "gencli.run.assembly.torch.hub.load": {"repo_or_dir": "a/b", "model": "c"},
    "gencli.run.assembly.torch.load": {"f": "payload.pt"},
    "gencli.run.folder.subprocess.Popen": {"args": ["touch", "ran"]},
    "gencli.core.files.write_whole": {"path": "ran", "data": "x"},
    "gencli.core.files.os.system": {"command": "touch ran"},
    "gencli.cli.main": {"argv": ["train"]},
    "gencli.cli.main.Task": {"verb": "train", "config_dirs": [], "run_config": None},
    "gencli.__main__.sys.exit": {"_args_": [0]},
    "gencli.data.sets.cifar10.pickle.loads": {"_args_": ["x"]},
    "gencli.data.root.fetch": {"path": "ran", "expected_md5": "x", "urls": ["file:///etc/hostname"]},
    "gencli.core.torchvision_compat.torchvision": {"name": "evil"},
    "gencli.models.base.Model": {},
    "gencli.interfaces.nn.Module": {},
    "gencli.samplers.direct.Direct": {},
    "gencli.cli.train.train": {"cfg": {}},
    "gencli.cli.completion.glob.glob": {"pathname": "/*"},
    "gencli.configs.data": {},
    "gencli.nothing.here": {},
    "gencli.models.flows.coupling.__import__": {"name": "evil"},
    "gencli.models.__builtins__.exec": {"_args_": ["open('ran', 'w')"]},
    "gencli._": {},
    "gencli.evil.Model": {},
    "genclii.Model": {},
}


def _own_targets() -> Iterator[Case]:
    for k, (target, options) in enumerate(OWN.items()):
        for section in ("model", ("sampler", "objective", "model.net", "estimator", "data")[k % 5]):
            node = {"_target_": target, **options}
            yield Case(f"own/{section}-{target}", both(payloads, setting(section, node)), verbs_of(section, k))
    for target in (
        "a b.C",
        "..",
        ".x.Y",
        "os.system\n",
        "gencli..x",
        "ｇｅｎｃｌｉ.x.Y",
        "gencli.\u202e.x",
        "-m.evil",
        "a." * 5000,
    ):
        yield Case(f"own/odd-{word(target)}", setting("model._target_", target), ("sample", "compare", "resume"))
    for k, value in enumerate([[], {}, 1, None, True, ["os.system"], {"_target_": "os.system"}]):
        yield Case(f"own/no_text-{k}-{word(value)}", setting("model._target_", value), ("sample", "resume"))


KEYWORDS: dict[str, object] = {
    "_partial_": True,
    "_args_": ["touch ran"],
    "_convert_": "all",
    "_recursive_": False,
    "_group_": "evil",
    "_package_": "_global_.hydra",
    "_name_": "evil",
    "_content_": {"_target_": "evil.Model"},
    "_here_": "evil",
    "__class__": "evil",
    "__init__": {"_target_": "evil.Model"},
    "__dict__": {"x": 1},
    "self": 1,
    "spec": {"_target_": "evil.Model"},
    "run": "latest",
    "teacher": "latest",
    "trust": ["evil"],
    "kwargs": {"x": 1},
    "": 1,
    "a.b": 1,
    "a@b": 1,
    ESCAPE: 1,
    MARKUP: 1,
}


def _keywords() -> Iterator[Case]:
    places = ("model", "data", "objective", "sampler", "estimator", "model.net", "optimizer", "trainer", "logger")
    for k, (key, value) in enumerate(KEYWORDS.items()):
        for where in {"model", "data", places[2 + k % (len(places) - 2)], places[2 + (k + 3) % (len(places) - 2)]}:
            attack = both(payloads, merging(where, {key: value}))
            yield Case(f"keyword/{where}-{k}-{word(key)}", attack, verbs_of(where, k))


def cases() -> Iterator[Case]:
    yield from _targets()
    yield from _own_targets()
    yield from _keywords()
