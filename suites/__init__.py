"""The suites that come with optbench: one file per question."""
