"""The scoring process, in which batches after the first take very long, or what SLOW says does.

`finding`: finding cells. `held`: batches after a plane's first, until the run is cancelled.
"""

import itertools
import os
import time

from napari_all_detect._napari.process import worker
from napari_all_detect.pipeline import scorer


class Slow:
    """An engine that gets stuck."""

    def __init__(self, engine):
        self.name, self.device, self._engine, self._calls = engine.name, engine.device, engine, 0

    def predict(self, crops, progress=None):
        self._calls += 1
        if self._calls > 1:
            time.sleep(600)
        return self._engine.predict(crops, progress)


class Held(worker._TellingEngine):
    """Begins a plane's second batch only when that is cancelled."""

    def __init__(self, scorer, tell, cancelled):
        asked = itertools.count()

        def wait():
            while next(asked) and not cancelled():
                time.sleep(0.01)
            return cancelled()

        super().__init__(scorer, tell, wait)


def find_forever(given, params):
    while True:
        time.sleep(0.01)


if __name__ == "__main__":
    slow = os.environ.get("SLOW")
    if slow == "finding":
        worker.find_cells = find_forever
    elif slow == "held":
        worker._TellingEngine = Held
    else:
        open_engine = scorer.open_engine
        scorer.open_engine = lambda bundle, params: Slow(open_engine(bundle, params))
    worker.main()
