"""A Slurm of one machine, for tests: its commands by name in a folder that stands first in PATH.

It starts each job at once, unless it is handed over with --hold. What it knows of a job is a line in ``jobs/<id>``:
its script, and its process once it runs. As a Slurm of one node has been seen to do, ``scancel --signal`` reaches all
processes of a job, and ``sacct`` fails where no accounts are kept.
"""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "srun", "scancel", "sacct", "squeue", "scontrol")
REFUSED = """sbatch: error: invalid partition specified: nowhere
sbatch: error: Batch job submission failed: Invalid partition name specified"""
FULL = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy"


def install(folder: Path) -> None:
    for name in COMMANDS:
        file = folder / name
        file.write_text(f'#!/bin/sh\nexec {sys.executable} -S {__file__} {folder} {name} "$@"\n')
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    (folder / "jobs").mkdir()


def start(jobs: Path, job: str, script: str) -> None:
    quiet = subprocess.DEVNULL
    own = os.environ | {"SLURM_JOB_ID": job, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
    for number in (signal.SIGINT, signal.SIGHUP):  # a job hears them, whatever the tests were started under
        signal.signal(number, signal.SIG_DFL)
    process = subprocess.Popen(["bash", script], env=own, start_new_session=True, stdout=quiet, stderr=quiet)
    (jobs / job).write_text(f"{process.pid} {script}")


def main(folder: Path, name: str, words: list[str]) -> None:
    jobs = folder / "jobs"
    if name == "sbatch":
        text = Path(words[0]).read_text()
        if "--partition=nowhere" in text:
            sys.exit(REFUSED)
        job = str(len([*jobs.glob("*.sh")]) + 1)
        if int(job) > int(os.environ.get("TEST_SLURM_TAKES", "99")):
            sys.exit(FULL)
        kept = jobs / f"{job}.sh"
        kept.write_text(text)
        if "--hold" in text:
            (jobs / job).write_text(f"{WAITS} {kept}")
        else:
            start(jobs, job, str(kept))
        print(f"Submitted batch job {job}")
    elif name == "srun":
        options = dict(zip(words[1::2], words[2::2], strict=False))
        command = words[words.index(options["--error"]) + 1 :]
        job = os.environ["SLURM_JOB_ID"]
        for number, option in ((1, "--output"), (2, "--error")):
            file = options[option].replace("%j", job).replace("%t", "0")
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        os.execvp(command[0], command)
    elif name == "sacct":
        sys.exit("Slurm accounting storage is disabled")
    elif name == "squeue":
        assert "--format=%i %T" in words
        for script in jobs.glob("*.sh"):
            print(script.stem, state(jobs, script.stem))
    elif name == "scancel":
        number = next((getattr(signal, f"SIG{w[9:]}") for w in words if w.startswith("--signal=")), signal.SIGTERM)
        if any(word.startswith("--state") for word in words):
            if state(jobs, words[-1]) == "PENDING":
                (jobs / words[-1]).write_text(f"{CANCELLED} -")
        else:
            for pid in group(jobs, words[-1]):
                os.kill(pid, number)
    elif name == "scontrol":
        job = words[1]
        script = (jobs / job).read_text().partition(" ")[2]
        (jobs / f"{job}.again").touch()
        if os.fork() == 0:
            while len(group(jobs, job)) > 1:  # this process is of the job too
                time.sleep(0.05)
            start(jobs, job, script)
            (jobs / f"{job}.again").unlink()


WAITS, CANCELLED = "waits", "cancelled"


def state(jobs: Path, job: str) -> str:
    own = (jobs / job).read_text().split()[0]
    if own in (WAITS, CANCELLED):
        return "PENDING" if own == WAITS else "CANCELLED"
    if (jobs / f"{job}.again").exists():
        return "COMPLETING"
    try:
        running = Path(f"/proc/{own}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        running = False
    return "RUNNING" if running else "COMPLETED"


def group(jobs: Path, job: str) -> list[int]:
    """Processes of a job that are not its shell."""
    own = (jobs / job).read_text().split()[0]
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[3] == own and fields[0] not in "ZX" and file.parent.name != own:
            found.append(int(file.parent.name))
    return found


class Waits:
    """A job that runs until a file is there, or until it is interrupted; it may be queued again."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __call__(self) -> dict[str, object]:
        with Path(self.file + ".starts").open("a") as starts:
            starts.write("x")
        try:
            until = time.monotonic() + 100  # a test that fails leaves nothing behind
            while not Path(self.file).exists() and time.monotonic() < until:
                time.sleep(0.05)
        except KeyboardInterrupt:
            return {"exit_code": 130, "cause": "stopped", "seconds": 1.0, "interrupted": True}
        return {"exit_code": 0, "cause": "", "seconds": 1.0, "interrupted": False}

    def checkpoint(self) -> object:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Waits(self.file))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
