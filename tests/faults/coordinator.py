"""A process that runs the small sweep and says which runs are finished, by their numbers.

coordinator.py STUDY [SCHEDULER] [--diverging]
"""

import sys

from small_sweep import KEYS, RUNS

from gradquake.errors import GradquakeError
from gradquake.experiments import xor
from gradquake.study.execution import execute
from gradquake.study.pools import open_executor
from gradquake.study.study import open_study

# A run that cannot be measured: its training diverges.
DIVERGING = xor.sweep((200,), 1, epochs=30, learning_rate=1e308, alpha_train=0)


def main(path, *options):
    runs = [*DIVERGING, *RUNS] if "--diverging" in options else RUNS
    scheduler = next((option for option in options if option.startswith("tcp:")), None)
    with (
        open_executor(None if scheduler else 2, scheduler) as pool,
        open_study(path, create=True) as study,
    ):

        def tell(*_):
            keys = study.keys()
            print(*(i for i, key in enumerate(KEYS) if key in keys), flush=True)

        try:
            execute(study, xor.measure, runs, pool, tell)
        except GradquakeError as error:
            sys.exit(f"gradquake: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
