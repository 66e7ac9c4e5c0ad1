"""Data files."""

from __future__ import annotations

import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator

import numpy as np

from hostile.base import ESCAPE, OPENING, Case, Payload, Place, edit
from hostile.runs import PATHS


def _dataset(target: str, **options: object) -> Callable[[Place], None]:
    """Make the data section one of files; values that are callable are given the place."""

    def change(place: Place) -> None:
        found = {key: value(place) if callable(value) else value for key, value in options.items()}
        edit(place, "data", {"root": None, "_target_": f"gencli.data.{target}", **found})

    return change


def _empty(place: Place) -> str:
    (place.outside / "empty").mkdir()
    return str(place.outside / "empty")


def _inside(place: Place, name: str, data: bytes) -> str:
    (place.run / name).write_bytes(data)
    return str(place.run / name)


def _objects(place: Place) -> str:
    with (place.run / "x.npy").open("wb") as file:
        np.save(file, np.array([Payload(place.mark)] * 50, dtype=object), allow_pickle=True)
    return str(place.run / "x.npy")


def _zipped_objects(place: Place) -> str:
    np.savez(place.run / "x.npz", train=np.array([Payload(place.mark)] * 50, dtype=object))
    return str(place.run / "x.npz")


def npy_header(shape: str, descr: str = "'<f8'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (64 - (len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def zip_of(name: str, data: bytes, times: int = 1) -> Callable[[Place], bytes]:
    def make(place: Place) -> bytes:
        file = place.scratch / "tmp" / "x.zip"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as member:
            for _ in range(times):
                member.write(data)
        return file.read_bytes()

    return make


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 32 32
%%EndComments
(ran) (w) file closefile
showpage
%%EOF
"""


def _photos(**files: bytes) -> Callable[[Place], str]:
    """A folder of "images" within the run."""

    def make(place: Place) -> str:
        photos = place.run / "photos"
        photos.mkdir()
        for name, data in files.items():
            for k in range(20):
                (photos / f"{name}{k}.png").write_bytes(data)
        return str(photos)

    return make


def _linked_photos(place: Place) -> str:
    photos = place.run / "photos"
    photos.mkdir()
    for k in range(20):
        (photos / f"{k}.png").symlink_to("/dev/zero")
    (photos / "loop").symlink_to(photos)
    return str(photos)


def _bomb_png() -> bytes:
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    )


def cases() -> Iterator[Case]:
    for target in (
        *("mnist.MNIST", "mnist.FashionMNIST", "cifar10.CIFAR10", "svhn.SVHN", "celeba.CelebA", "tabular.Power"),
        *("binarized_mnist.BinarizedMNIST", "text.TinyShakespeare", "text.Enwik8", "uci_binary.UCIBinary"),
    ):
        yield Case(f"data/{target}-outside", _dataset(target, root=_empty), ("sample", "eval", "again", "load"))
    for name, root in {
        "new": lambda place: str(place.outside / "new" / "folder"),
        "link": lambda place: _link_out(place),
        "nobody": lambda place: "~nobody-of-this-name",
        "home": lambda place: "~",
        "empty": lambda place: "",
        "nul": lambda place: "a\0b",
        "zero": lambda place: "/dev/zero",
        "list": lambda place: ["x"],
        "number": lambda place: 3,
        "url": lambda place: "http://127.0.0.1:9/",
        "long": lambda place: "x" * 5000,
    }.items():
        yield Case(f"data/root-{name}", _dataset("mnist.MNIST", root=root), ("sample", "again"))
    for target in ("array.Array", "csv.CSV", "text.TextFile", "image_folder.ImageFolder"):
        for name in (
            "fifo",
            "zero",
            "nobody",
            "nul",
            "root",
            "long",
            "url",
            "escape",
            "list",
            "number",
            "empty",
            "mem",
        ):
            verbs = ("sample", "again") if name in ("fifo", "zero") else ("sample",)
            yield Case(f"data/{target}-{name}", _dataset(target, path=PATHS[name]), verbs)
    yield Case("data/objects-npy", _dataset("array.Array", path=_objects), OPENING)
    yield Case("data/objects-npz", _dataset("array.Array", path=_zipped_objects), OPENING)
    for name, data in {
        "pickle": pickle.dumps({"train": 1}),
        "shape": npy_header("(1000000000000, 2)"),
        "negative-shape": npy_header("(-1, 2)"),
        "code": npy_header("(__import__('os').system('touch ran'), 2)"),
        "descr": npy_header("(1,)", "[('a', '<f8', (100000, 100000))]"),
        "object-descr": npy_header("(1,)", "'|O'"),
        "deep-header": npy_header("(" * 3000 + ")" * 3000),
        "empty": b"",
    }.items():
        make = lambda place, data=data: _inside(place, "x.npy", data)  # noqa: E731
        yield Case(f"data/npy-{name}", _dataset("array.Array", path=make), ("sample", "again"))
    bomb = zip_of("train.npy", npy_header(f"({2**28}, 16)") + bytes(2**20), 1)
    make = lambda place: _inside(place, "x.npz", bomb(place))  # noqa: E731
    yield Case("data/npz-short", _dataset("array.Array", path=make), ("sample", "again"))
    for name, data in {
        "pickle": pickle.dumps([1]),
        "formulas": b"a,b\n" + b"=cmd|' /C touch ran'!A0,1\n" * 20,
        "names": b"\x1b]0;pwn\x07,b\n" + b"x,2\n" * 20,
        "nul": b"a,b\n" + b"\0,1\n" * 20,
        "wide": b",".join(b"1" for _ in range(2_000)) + b"\n",
        "not-utf8": b"a,b\n\xff\xfe,1\n" * 20,
        "ragged": b"a,b\n1,2,3,4\n1\n" * 20,
        "huge": b"a,b\n" + b"1e999,2\n" * 20,
    }.items():
        make = lambda place, data=data: _inside(place, "x.csv", data)  # noqa: E731
        yield Case(f"data/csv-{name}", _dataset("csv.CSV", path=make), ("sample", "again"))
    for name, ending, data in (
        ("pickled-zip", ".csv.zip", lambda place: zip_of("../../../ran", b"a,b\n1,2\n" * 20)(place)),
        ("tar", ".csv.tar", lambda place: _tar(place)),
        ("no-xz", ".csv.xz", lambda place: b"no xz"),
        ("zst", ".csv.zst", lambda place: b"no zst"),
        ("xlsx", ".xlsx", lambda place: b"PK"),
        ("hdf", ".h5", lambda place: b"\x89HDF\r\n\x1a\n"),
    ):
        make = lambda place, ending=ending, data=data: _inside(place, f"x{ending}", data(place))  # noqa: E731
        yield Case(f"data/csv-{name}", _dataset("csv.CSV", path=make), ("sample",))
    for name, options in {
        "regex": {"separator": "(a+)+$"},
        "separator": {"separator": ""},
        "control": {"separator": ESCAPE},
        "columns": {"columns": ["__class__"]},
        "label": {"label": ESCAPE},
        "support": {"support": "levels:99999999999999999999"},
        "support-nan": {"support": "levels:nan"},
    }.items():
        table = lambda place: _inside(place, "x.csv", b"a,b\n" + b"1,2\n" * 5 + b"a" * 40 + b"!,1\n")  # noqa: E731
        yield Case(f"data/csv-option-{name}", _dataset("csv.CSV", path=table, **options), ("sample",))
    for name, make in {
        "postscript": _photos(a=EPS),
        "postscript-binary": _photos(a=b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, len(EPS)) + bytes(20) + EPS),
        "bomb": _photos(a=_bomb_png()),
        "pickle": _photos(a=pickle.dumps(1)),
        "text": _photos(a=b"no image"),
        "empty": _photos(a=b""),
        "links": _linked_photos,
        "fits": _photos(a=b"SIMPLE  =                    T" + b" " * 50 + b"BITPIX  =  8"),
    }.items():
        yield Case(f"data/images-{name}", _dataset("image_folder.ImageFolder", path=make), ("eval", "resume"))
    for name, data in {
        "controls": ESCAPE.encode() * 200,
        "not-utf8": b"\xff\xfe" * 500,
        "bidi": ("\u202e" * 500).encode(),
        "empty": b"",
    }.items():
        make = lambda place, data=data: _inside(place, "x.txt", data)  # noqa: E731
        yield Case(f"data/text-{name}", _dataset("text.TextFile", path=make), ("sample", "again"))


def _tar(place: Place) -> bytes:
    file = place.scratch / "tmp" / "x.tar"
    source = place.scratch / "tmp" / "member"
    source.write_bytes(b"a,b\n1,2\n" * 20)
    with tarfile.open(file, "w") as archive:
        archive.add(source, "../../../ran")
    return file.read_bytes()


def _link_out(place: Place) -> str:
    (place.run / "data").symlink_to(place.outside)
    return str(place.run / "data")
