"""Run folders in, PDFs out; never trains, never preprocesses."""

from reports.writing import Reports, write_reports

__all__ = ["Reports", "write_reports"]
