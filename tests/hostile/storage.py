"""The storage of a search that a stranger made: files, links, schemas, and where the search goes on with it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from hostile.base import ESCAPE, Case, Payload, Place, both, content

ENDED = ("search",)
"""All trials have ended: the search reads, and tells what it has read."""
GOING = ("script:search",)
"""A trial is still to be trained."""
MORE = ("search.trials=3",)
JOURNAL = ("search.storage=outputs/run/x.log",)
MOONS = ("data=moons", "data.train=200", "data.val=40", "data.test=40")
SMALL = ("model=realnvp", "model.net.vector.hidden=[8]", "trainer.max_steps=1", "logger=none", "n=0", "device=cpu")
SEARCH = ("optimizer.lr=interval(1e-4,1e-1)", "search=random", "search.trials=2", "sweep.workers=1")


def words(folder: str, extra: Sequence[str]) -> list[str]:
    """The search that the user goes on with; further words take the place of these."""
    given = {word.partition("=")[0] for word in extra}
    kept = [word for word in (*MOONS, *SMALL, *SEARCH) if word.partition("=")[0] not in given]
    return ["train", "-m", *kept, f"sweep.dir={folder}", *extra]


def cases() -> Iterator[Case]:
    """Every case of this file."""
    for kind in (_files, _links, _schemas, _going):
        yield from kind()


def case(name: str, change: Callable[[Place], None], *extra: str, verbs: tuple[str, ...] = ENDED) -> Case:
    """A case of the group; ``extra`` are further words of the command."""
    return Case(f"storage/{name}", change, verbs, extra=extra)


# --- good storages, changed ------------------------------------------------------------------------------------------


@cache
def good(journal: bool = False) -> bytes:
    """A storage with two trials that are done, as Optuna writes it."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    from gencli.config.multirun import multirun
    from gencli.sweeps.search.study import study_id

    found = words("x", ())[2:]
    search = multirun(found, found, []).search
    assert search is not None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "made")
        where: Any = optuna.storages.JournalStorage(JournalFileBackend(str(file))) if journal else f"sqlite:///{file}"
        study = optuna.create_study(storage=where, study_name=f"gencli-{study_id(search)}")
        study.set_user_attr("search", study_id(search))
        for k, rate in enumerate((0.01, 0.02)):
            attrs = {
                "job": {"sweep": "/nowhere", "host": "there", "id": "12345678", "run": "/nowhere/run"},
                "result": {"nll": 2.0 + k, "se": 0.1, "unit": "nats", "bound": "exact", "steps": 1, "n_examples": 40},
            }
            distributions = {"optimizer.lr": optuna.distributions.FloatDistribution(1e-4, 1e-1)}
            study.add_trial(
                optuna.trial.create_trial(
                    params={"optimizer.lr": rate}, distributions=distributions, value=2.0 + k, user_attrs=attrs
                )
            )
        return file.read_bytes()


def alone(name: str = "search.db", data: bytes | Callable[[], bytes] = good) -> Callable[[Place], None]:
    """The sweep's folder holds a storage and nothing else."""

    def change(place: Place) -> None:
        shutil.rmtree(place.run)
        place.run.mkdir()
        (place.run / name).write_bytes(data() if callable(data) else data)

    return change


def instead(name: str, make: Callable[[Path], object]) -> Callable[[Place], None]:
    """Something that is no file stands where the storage should."""

    def change(place: Place) -> None:
        alone("other", b"")(place)
        make(place.run / name)

    return change


def sql(*statements: str) -> Callable[[Place], None]:
    """Statements change a good database."""

    def change(place: Place) -> None:
        alone()(place)
        with closing(sqlite3.connect(place.run / "search.db")) as database:
            database.executescript("".join(statements))

    return change


def put(table: str, column: str, value: str, where: str = "1") -> str:
    """A statement that puts a value, written in SQL, into a column."""
    return f"UPDATE {table} SET {column} = {value} WHERE {where};"


def text(value: object) -> str:
    """A text, or JSON, as SQL writes it."""
    found = value if isinstance(value, str) else json.dumps(value)
    return "'" + found.replace("'", "''") + "'"


def system(key: str, value: object) -> str:
    """A statement by which a sampler finds this in every trial."""
    into = "INSERT INTO trial_system_attributes (trial_id, key, value_json)"
    return f"{into} SELECT trial_id, '{key}', {text(json.dumps(value))} FROM trials;"


# --- cases -----------------------------------------------------------------------------------------------------------


def _zeroed(page: int) -> Callable[[], bytes]:
    return lambda: good()[: 4096 * page + 100] + bytes(3996) + good()[4096 * (page + 1) :]


def _files() -> Iterator[Case]:
    yield case("good", alone())
    yield case("empty", alone(data=b""), "search.trials=1", verbs=GOING)
    yield case("garbage", alone(data=b"\x00\xff" * 5000))
    yield case("pickle", lambda place: alone(data=pickle.dumps(Payload(place.mark)))(place))
    yield case("header", alone(data=b"SQLite format 3\x00" + b"\xff" * 4000))
    yield case("half", alone(data=lambda: good()[: len(good()) // 2]))
    for page in range(6):
        yield case(f"zeroed-{page}", alone(data=_zeroed(page)), verbs=GOING)  # some hold no study any more
    yield case("folder", instead("search.db", Path.mkdir))
    yield case("fifo", instead("search.db", os.mkfifo))
    yield case("version", sql("UPDATE version_info SET schema_version = 99;"))
    yield case("revision", sql(f"UPDATE alembic_version SET version_num = {text(ESCAPE)};"))
    yield case("library", sql(f"UPDATE version_info SET library_version = {text(ESCAPE)};"))
    yield case("url", alone(), "search.storage=sqlite:///outputs/run/search.db")
    yield case("url-of-garbage", alone("x", b"x" * 5000), "search.storage=sqlite:///outputs/run/x")


def _link(name: str, target: str) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        alone()(place)
        if name == "search.db":
            (place.run / name).rename(place.outside / "search.db")
        (place.run / name).symlink_to(place.outside / target)

    return change


def _links() -> Iterator[Case]:
    yield case("link", _link("search.db", "search.db"))
    yield case("link-to-nothing", _link("search.db", "new.db"))
    yield case("link-to-a-text", _link("search.db", "mine.txt"))
    yield case("link-of-a-journal", instead("x.log", lambda path: path.symlink_to("/dev/zero")), *JOURNAL)
    for suffix in ("journal", "wal", "shm"):
        yield case(f"link-{suffix}", _link(f"search.db-{suffix}", "mine.txt"))
    yield case("journal-of-another-file", _names_another_file)
    yield case("wal-garbage", both(alone(), content("search.db-wal", b"\x37\x7f\x06\x82" * 99)))


def _names_another_file(place: Place) -> None:
    """A journal that is to be rolled back, after which SQLite removes the file that it names."""
    alone()(place)
    victim = str(place.outside / "mine.txt").encode()
    pages = (place.run / "search.db").stat().st_size // 4096
    magic = bytes.fromhex("d9d505f920a163d7")
    header = magic + struct.pack(">IIIII", 0, 0, pages, 512, 4096)
    end = struct.pack(">I", pages + 10**6) + victim + struct.pack(">II", len(victim), sum(victim)) + magic
    (place.run / "search.db-journal").write_bytes(header.ljust(512, b"\0") + end)


def _schemas() -> Iterator[Case]:
    for table in ("studies", "study_directions", "study_user_attributes", "trials", "trial_values", "trial_params"):
        yield case(f"other-{table}", sql(f"DROP TABLE {table}; CREATE TABLE {table} (x TEXT);"))
        yield case(f"no-{table}", sql(f"DROP TABLE {table};"), verbs=GOING if table == "trials" else ENDED)
    yield case("alembic", sql("DROP TABLE alembic_version; CREATE TABLE alembic_version (version_num BLOB);"))
    view = "ALTER TABLE trials RENAME TO own; CREATE VIEW trials AS SELECT own.* FROM own"
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    yield case("view", sql(f"{view};"))
    yield case("view-endless", sql(f"{view} WHERE ({endless}) > 0;"))
    yield case("view-extension", sql(f"{view} WHERE load_extension('x.so') > 0;"))
    trigger = "CREATE TRIGGER t AFTER INSERT ON trials BEGIN UPDATE trial_values SET value = -1e9; END;"
    yield case("trigger", sql(trigger), *MORE)


def _run_elsewhere(place: Place) -> None:
    """The best trial says that its run is a folder of the user's: nothing is measured there."""
    shutil.copytree(place.good / "flow", place.outside / "victim")
    job = {"sweep": "/s", "host": "h", "id": "12345678", "run": str(place.outside / "victim")}
    sql(put("trial_user_attributes", "value_json", text(job), "key = 'job'"))(place)


def _going() -> Iterator[Case]:
    last = "DELETE FROM trial_values WHERE trial_id = 2; UPDATE trials SET state = '{}' WHERE trial_id = 2;"
    fixed = system("fixed_params", {"optimizer.lr": ESCAPE})
    step = "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)"
    unasked = "DELETE FROM trial_params WHERE trial_id = 2;"
    beyond = put("trial_params", "param_value", "7.0", "trial_id = 2")
    yield case("going", alone(), *MORE, verbs=GOING)
    yield case("run-elsewhere", _run_elsewhere, verbs=GOING)
    yield case("run-elsewhere-going", _run_elsewhere, *MORE, verbs=GOING)
    yield case("running", sql(last.format("RUNNING")), verbs=GOING)
    yield case("running-beyond", sql(last.format("RUNNING"), beyond), verbs=GOING)
    yield case("waiting", sql(last.format("WAITING"), unasked, fixed), verbs=GOING)
    pruned = f"{step} VALUES (1, 1, {text(ESCAPE)}, 'FINITE');"
    yield case("pruner", sql(pruned), *MORE, "search.pruner=median", verbs=GOING)
