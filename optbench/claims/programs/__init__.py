"""What measures: functions from JSON to JSON that run in a worker, or that read the rows of stored runs."""
