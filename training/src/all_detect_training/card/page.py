"""The model card as one HTML page that needs nothing else, with what text can't show: curves and intervals."""

from collections.abc import Mapping
from html import escape
from typing import Any

from markdown_it import MarkdownIt

from all_detect_training.plots import comparison_plot, reliability_figures
from napari_all_detect.bundle import AnyBundle
from napari_all_detect.bundle.manifest import Manifest
from napari_all_detect.export.report import POLICY

__all__ = ["card_page"]

STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: anywhere }
h1 { line-height: 1.2 } h2 { margin-top: 2.2rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; display: block;
  overflow-x: auto }
th, td { padding: .25rem .7rem; text-align: left; border-bottom: 1px solid #ddd; overflow-wrap: normal }
th { border-bottom: 2px solid #888 } pre { background: #f5f5f5; padding: .8rem; overflow-x: auto }
.row { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: .5rem 0 } figcaption { font-size: .85rem }
svg { max-width: 100%; height: auto }
"""
HELD_OUT, TRUST = "Held-out figures", "How far a score can be trusted"


def card_page(bundle: AnyBundle) -> str:
    """Return a bundle's card as HTML.

    Parameters
    ----------
    bundle : AnyBundle
        The text is its `MODEL_CARD.md`, the pictures are of the figures in its `bundle.json`.

    Returns
    -------
    page : str
        It fetches nothing and runs no script; HTML in the card's text is shown, not obeyed.
    """
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(bundle.card)
    if isinstance(bundle.manifest, Manifest):
        metrics = bundle.manifest.metrics
        body = _put(body, HELD_OUT, _intervals(metrics))
        body = _put(body, TRUST, _reliability(metrics))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>Model card: {escape(bundle.label)}</title><style>{STYLE}</style></head>\n<body>{body}</body></html>\n"
    )


def _put(body: str, heading: str, pictures: str) -> str:
    """Put pictures below the heading that begins so; a card without it stays as it is."""
    start = body.find(f"<h2>{heading}")
    end = body.find("</h2>", start)
    return body if start < 0 or end < 0 else f"{body[: end + 5]}\n{pictures}{body[end + 5 :]}"


def _intervals(metrics: Mapping[str, Any]) -> str:
    """Draw the AUC of members and ensembles for cells, the best first."""
    rows = {**metrics.get("members", {}), **{f"ensemble, {k}": v for k, v in metrics.get("ensembles", {}).items()}}
    drawn = [(name, *(row["cell"]["auc"][key] for key in ("value", "low", "high"))) for name, row in rows.items()]
    known = sorted((row for row in drawn if row[1] is not None), key=lambda row: -row[1])
    if not known:
        return ""
    return (
        f"<figure>{comparison_plot(known, 'AUC for test cells')}<figcaption>With the intervals of the table below."
        "</figcaption></figure>\n"
    )


def _reliability(metrics: Mapping[str, Any]) -> str:
    """Draw reliability diagrams before and after calibration."""
    figures = metrics.get("trust", {}).get("calibration", {})
    return f'<div class="row">{reliability_figures(figures)}</div>\n' if figures else ""
