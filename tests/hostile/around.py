"""The working directory, and names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from hostile.base import ESCAPE, Case, Place

RAN = "open('ran', 'w').close()\n"
HYDRA_YAML = "defaults:\n  - override hydra/job_logging: evil\n_target_: os.system\ncommand: touch ran\n"
MATPLOTLIBRC = "text.usetex: True\naxes.prop_cycle: cycler('color', [open('ran', 'w').close() or 'k'])\nbackend: evil\n"

AROUND: dict[str, dict[str, str]] = {
    "torch.py": {"torch.py": RAN},
    "numpy.py": {"numpy.py": RAN},
    "yaml.py": {"yaml.py": RAN},
    "hydra": {"hydra/__init__.py": RAN, "omegaconf.py": RAN},
    "hydra_plugins": {"hydra_plugins/__init__.py": RAN, "hydra_plugins/evil/__init__.py": RAN},
    "hydra_plugins-namespace": {"hydra_plugins/evil/__init__.py": RAN, "hydra_plugins/evil.py": RAN},
    "gencli": {"gencli/__init__.py": RAN, "gencli/__main__.py": RAN},
    "standard": {
        f"{name}.py": RAN for name in ("pathlib", "json", "typing", "random", "argparse", "difflib", "inspect")
    },
    "sitecustomize": {"sitecustomize.py": RAN, "usercustomize.py": RAN, "x.pth": "import os; open('ran', 'w')\n"},
    "conf": {f"conf/{name}.yaml": HYDRA_YAML for name in ("train", "sample", "eval", "hydra/job_logging/evil")},
    "hydra-folder": {f".hydra/{name}.yaml": HYDRA_YAML for name in ("config", "hydra", "overrides")},
    "files": {
        "setup.cfg": "[x]\n",
        "tox.ini": "[x]\n",
        "pyproject.toml": "[x",
        ".env": "X=1\n",
        "sample.yaml": HYDRA_YAML,
    },
    "matplotlibrc": {"matplotlibrc": MATPLOTLIBRC},
    "optional": {f"{name}.py": RAN for name in ("torchvision", "tensorboard", "joblib", "rich", "PIL", "evil", "cv2")},
    "extras": {
        f"{name}.py": RAN for name in ("torch_fidelity", "colorlog", "readline", "antigravity", "apport_python_hook")
    },
    "libraries": {"libc.so.6": "x", "libgomp.so.1": "x", "git": "#!/bin/sh\ntouch ran\n"},
    "all-at-once": {
        "torch.py": RAN,
        "matplotlib.py": RAN,
        "scipy/__init__.py": RAN,
        "pandas.py": RAN,
        "safetensors.py": RAN,
    },
}
"""Files of the working directory."""


def around(files: dict[str, str]) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        for name, data in files.items():
            file = place.work / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(data)
            file.chmod(0o755)

    return change


def _around() -> Iterator[Case]:
    cheap = {"yaml.py", "standard", "sitecustomize", "gencli", "extras", "libraries"}
    for name, files in AROUND.items():
        verbs = ["script:sample", "module:sample"]
        if name in cheap:
            verbs += ["script:compare", "module:compare", "module:complete"]
        if name == "gencli":  # `python -m` takes the package of the working directory: that is what it means
            verbs = [verb for verb in verbs if not verb.startswith("module")]
        if name in ("hydra_plugins", "conf"):
            verbs += ["script:resume"]
        yield Case(f"around/{name}", around(files), tuple(verbs))


NAMES = {
    "substitution": "$(touch ran)",
    "backticks": "`touch ran`",
    "semicolon": ";touch ran;",
    "and": "a&&touch ran",
    "pipe": "|touch ran",
    "redirect": ">ran",
    "newline": "a\ntouch ran\nb",
    "escape": f"a{ESCAPE.replace('/', '')}",
    "return": "a\rb",
    "dash": "-rf",
    "option": "--config-dir=evil",
    "quote": "a'$(touch ran)'b",
    "double": 'a"$(touch ran)"b',
    "glob": "a*",
    "brackets": "[link=x]a[closed]",
    "space": "a b",
    "bidi": "a\u202eb",
    "equals": "a=b,c={x}",
    "interpolation": "${oc.env:HOSTILE_SECRET}",
    "hash": "#x",
    "tilde": "~root",
    "surrogate": os.fsdecode(b"a\xff\xfe"),
    "comma": "a,b",
    "backslash": "a\\nb",
    "history": "!!",
}
COMPLETING = ("complete", "complete-resume", "complete-compare", "near", "near-compare", "latest", "compare", "sample")


def _nothing(place: Place) -> None:
    pass


def _names() -> Iterator[Case]:
    for name, value in NAMES.items():
        yield Case(f"names/{name}", _nothing, COMPLETING, name_of_run=value)
    for name, value in NAMES.items():
        inside = lambda place, value=value: (place.work / value).mkdir()  # noqa: E731
        yield Case(f"names/beside-{name}", inside, ("complete-data",))


def cases() -> Iterator[Case]:
    yield from _around()
    yield from _names()
