"""The scoring process, in which batches after the first take very long; or, as SLOW says, finding cells does."""

import os
import time

from napari_all_detect._napari import worker
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


def find_forever(given, params):
    while True:
        time.sleep(0.01)


if __name__ == "__main__":
    if os.environ.get("SLOW") == "finding":
        worker.find_cells = find_forever
    open_engine = scorer.open_engine
    scorer.open_engine = lambda bundle, params: Slow(open_engine(bundle, params))
    worker.main()
