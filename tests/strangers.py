"""Runs of strangers: what is changed in them, and how every command about a run refuses them."""

import os

import yaml

from gencli.cli.main import main


def poison(folder, path, value):
    file = folder / "config.yaml"
    config = yaml.safe_load(file.read_text())
    node = config
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    file.write_text(yaml.safe_dump(config))


def commands(folder):
    """Every verb that opens a run."""
    yield ["sample", f"run={folder}", "device=cpu", "n=4"]
    yield ["eval", f"run={folder}", "device=cpu"]
    yield ["train", f"resume={folder}"]


def refused(folder, capsys, says="", code=2, turn=None):
    """Every verb refuses in one line, writes nothing and runs nothing.

    ``turn``: only one of them, where a test has many cases: they go round, and the campaign tries each with every verb.
    """
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    verbs = list(commands(folder))
    for words in verbs if turn is None else [verbs[turn % len(verbs)]]:
        capsys.readouterr()
        assert main(words) == code, words
        error = capsys.readouterr().err
        assert says in error
        assert len(error.splitlines()) == 1
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
        assert not os.path.exists("ran")


class Payload:
    def __reduce__(self):
        return os.system, ("touch ran",)
