"""Large files of the user: what it takes to open them, in CPU seconds and in memory, beside numpy and pandas.

A file is open when its training split is there. Each work runs in a process of its own, whose memory is what it needs
beyond its imports, as a multiple of the file.

python -m benchmarks.tables_at_scale [--rows 1000000]
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.racing import Report, arguments, benchmark

WORK = """
import json, resource, sys, time
import numpy, pandas, torch
from gencli.data.sets.array import Array
from gencli.data.sets.csv import CSV
def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def opened(data):
    data.spec, data.split("train")
torch.set_num_threads(1)
path, before, began = sys.argv[1], peak(), time.process_time()
{work}
print(json.dumps([time.process_time() - began, peak() - before]))
"""

CSV_WORKS = {
    "gencli": "opened(CSV(path))",
    "gencli, numbers in a file": "opened(CSV(path, memory=0))",
    "numpy": "x = numpy.loadtxt(path, delimiter=',', skiprows=1)",
    "pandas": "x = pandas.read_csv(path).to_numpy()",
}
PARQUET_WORKS = {"gencli": "opened(CSV(path))", "pandas": "x = pandas.read_parquet(path).to_numpy()"}
ARRAY_WORKS = {"gencli": "opened(Array(path))", "bare numpy": "x = torch.from_numpy(numpy.load(path))"}
COLUMNS, PART = 10, 100_000


def write_csv(path: Path, rows: int) -> None:
    """Normal numbers of six digits."""
    random = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(f"x{k}" for k in range(COLUMNS)) + "\n")
        for done in range(0, rows, PART):
            x = random.standard_normal((min(PART, rows - done), COLUMNS))
            file.writelines(",".join(map("%.6g".__mod__, row)) + "\n" for row in x.tolist())


def write_array(path: Path, shape: tuple[int, ...], dtype: type) -> None:
    """Normal numbers, or bytes."""
    random = np.random.default_rng(0)
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    for done in range(0, shape[0], PART):
        part = array[done : done + PART]
        part[:] = random.standard_normal(part.shape) if dtype != np.uint8 else random.integers(0, 256, part.shape)
    array.flush()


def write_parquet(path: Path, rows: int) -> None:
    """The same numbers, in groups of rows."""
    import pyarrow
    from pyarrow import parquet

    random = np.random.default_rng(0)
    schema = pyarrow.schema([(f"x{k}", pyarrow.float64()) for k in range(COLUMNS)])
    with parquet.ParquetWriter(path, schema) as file:
        for done in range(0, rows, PART):
            x = random.standard_normal((min(PART, rows - done), COLUMNS))
            file.write_table(pyarrow.table(list(x.T), schema=schema))


def compare(report: Report, title: str, path: Path, works: dict[str, str], rounds: int) -> None:
    """Take turns; the first round warms the file's cache, and is left out."""
    times: dict[str, list[float]] = {name: [] for name in works}
    memory: dict[str, float] = {}
    for turn in range(rounds):
        for name, work in works.items():
            command = [sys.executable, "-c", WORK.format(work=work), str(path)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            took, memory[name] = json.loads(done.stdout)
            if turn or rounds == 1:
                times[name].append(took)
    size = path.stat().st_size
    shares = ", ".join(f"{name} {taken / size:.2f}" for name, taken in memory.items())
    report.table(f"{title}, {size / 1e6:.0f} MB; memory, of the file's size: {shares}", times)


def main(report: Report, rows: int, rounds: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "table.csv")
        write_csv(path, rows)
        compare(report, f"csv of {rows:,} x {COLUMNS}", path, CSV_WORKS, rounds)
        path.unlink()
        path = Path(folder, "table.parquet")
        write_parquet(path, rows)
        compare(report, f"parquet of {rows:,} x {COLUMNS}", path, PARQUET_WORKS, rounds)
        path.unlink()
        for title, shape, dtype in (
            (f"npy of {rows:,} x {COLUMNS} float32", (rows, COLUMNS), np.float32),
            (f"npy of {rows:,} x {COLUMNS} float64", (rows, COLUMNS), np.float64),
            (f"npy of {rows // 10:,} images of 32 x 32", (rows // 10, 32, 32), np.uint8),
        ):
            path = Path(folder, "array.npy")
            write_array(path, shape, dtype)
            compare(report, title, path, ARRAY_WORKS, rounds)
            path.unlink()


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.set_defaults(rounds=4)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of a table; of images a tenth of it")
    args = parser.parse_args()
    with benchmark("tables_at_scale", args.threads) as report:
        main(report, args.rows, args.rounds)
