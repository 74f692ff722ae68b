"""Only what pyproject.toml cannot say: suites/, claims/ and docs/ are installed as parts of `optbench`."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["optbench*"]),
        "optbench.suites",
        "optbench.claims",
        "optbench.claims.programs",
        "optbench.docs",
    ],
    package_dir={"optbench.suites": "suites", "optbench.claims": "claims", "optbench.docs": "docs"},
)
