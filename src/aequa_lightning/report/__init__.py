"""Pictures and the page of a run, made from the plain files of its folder. Reads no torch."""

from aequa_lightning.report.frontier import front_table, write_front_picture
from aequa_lightning.report.page import build_report
from aequa_lightning.report.reading import read_run
from aequa_lightning.report.records import RunRecord
from aequa_lightning.report.summary import summary_table

__all__ = ["RunRecord", "build_report", "front_table", "read_run", "summary_table", "write_front_picture"]
