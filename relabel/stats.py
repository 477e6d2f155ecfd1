"""Statistics of aligned draws, beside the verbs of :mod:`relabel` itself."""

from relabel.analysis.credible_regions import regions
from relabel.analysis.redrawing import redraw_scale
from relabel.analysis.reports import alignment_report
from relabel.analysis.slot_tables import slots

__all__ = ["alignment_report", "redraw_scale", "regions", "slots"]
