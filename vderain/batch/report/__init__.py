"""What a batch did: report.html and report.json."""
