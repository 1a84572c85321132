"""Many planes: plan, run, collect. Whatever fails is recorded, the rest goes on, and what is done is never lost."""

from napari_all_detect.batch.progress import BatchProgress, BatchSummary
from napari_all_detect.batch.scoring import score_batch
from napari_all_detect.batch.segmenting import segment_batch
from napari_all_detect.results import Failure

__all__ = ["BatchProgress", "BatchSummary", "Failure", "score_batch", "segment_batch"]
