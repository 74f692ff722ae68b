"""Only what pyproject.toml cannot say: suites/ and claims/ are installed as `optbench.suites` and `optbench.claims`."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["optbench*"]),
        "optbench.suites",
        "optbench.claims",
        "optbench.claims.programs",
    ],
    package_dir={"optbench.suites": "suites", "optbench.claims": "claims"},
)
