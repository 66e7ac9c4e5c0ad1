"""The process whose forks are the trainings that tests kill."""

import forks


def pytest_collection_finish():
    forks.start()
