"""The suites that travel with optbench: one file per question."""
