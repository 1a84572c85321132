"""The scoring process, whose batches after the first take very long."""

import time

from napari_all_detect._napari import worker


class Slow:
    """An engine that gets stuck."""

    def __init__(self, engine):
        self.name, self.device, self._engine, self._calls = engine.name, engine.device, engine, 0

    def predict(self, crops, progress=None, members=None):
        self._calls += 1
        if self._calls > 1:
            time.sleep(600)
        return self._engine.predict(crops, progress, members)


if __name__ == "__main__":
    open_engine = worker.open_engine
    worker.open_engine = lambda bundle, params: Slow(open_engine(bundle, params))
    worker.main()
