"""Run folders in, PDFs out; never trains, never preprocesses."""

from reports.writing import Reports, plan_subjects, write_reports

__all__ = ["Reports", "plan_subjects", "write_reports"]
