"""The report of a batch: report.html and report.json."""
