"""``gencli train -m search=NAME``: a sweep whose jobs a sampler chooses, one by one."""

from __future__ import annotations

import shlex
import sys

from gencli.config.multirun import Multirun
from gencli.core.errors import RunFailed, UsageError, quoted
from gencli.sweeps.child import Report, Work
from gencli.sweeps.folder import SweepFolder
from gencli.sweeps.launcher import Launch
from gencli.sweeps.machine import can_fork
from gencli.sweeps.table import Display

_ENDED = ("done", "skipped", "pruned", "failed")


def search(sweep: Multirun, work: Work, report: Report) -> int:
    """Run a search, or go on with it; returns the exit code.

    Args:
        sweep: with its search.
        work: trains or measures by a config.
        report: tells a failure to the user; returns the exit code.

    Raises:
        UsageError: the search cannot be run, and nothing was written.
        RunFailed: its folder or its storage cannot be written; earlier starts had nothing but failures.
    """
    forks = can_fork()
    assert sweep.search is not None
    options = sweep.search.options
    try:
        from gencli.sweeps.search import storage, summary
        from gencli.sweeps.search import study as studies
        from gencli.sweeps.search.trials import Trials
    except ImportError as error:
        wanted = "pip install 'gencli-nll[search]'"
        raise UsageError(f"search={options.sampler}: {error.name} is missing: {wanted}") from error
    if not sys.platform.startswith("linux") or options.sampler == "gp":
        forks = False  # Gaussian processes are fitted by torch, and who has computed by it cannot be forked

    def undone(found: SweepFolder) -> str:
        if options.storage is not None:
            return "who shares the storage has other trials"
        ended = sum(state in _ENDED for state in found.states())
        return f"{ended} trials have ended" if ended < options.trials else ""

    display, wanted = Display(), studies.study_id(sweep.search)
    folder, told = SweepFolder.of(sweep.options.dir, wanted, undone)
    try:
        where = storage.location(sweep.search, folder.path)
        folder.hold(wanted, display.say)
        study = studies.open_study(sweep.search, where)
        if told:
            display.say(told)
        trials = Trials(sweep, study, folder, options.storage is None, display.say)
        launch = Launch(sweep, [], folder, display, trials)
        launch.run(work, report, forks, [sweep.search.first] * trials.total)
        summary.tell(trials, where, display)
    except studies.ERRORS as error:
        raise RunFailed(studies.failure(sweep.search, where, error)) from error
    finally:
        folder.release()
    failed = [job for job in launch.jobs if job.state == "failed"]
    for job in failed:
        if job.log.is_file():
            print(quoted(f"  {job.name}: {job.cause} (log: {job.log})", 10_000), file=sys.stderr)
    finished = len(study.get_trials(deepcopy=False)) >= trials.total and not launch.stopped
    if not finished:
        display.say(f"go on with the same command: {shlex.join(['gencli', 'train', *sweep.words])}")
    if launch.stopped > 0:
        return 128 + launch.stopped
    if finished and not trials.done and not failed:
        raise RunFailed("no trial of this study has a value")
    return 0 if finished and trials.done else 1
