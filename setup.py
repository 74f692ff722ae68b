"""Only what pyproject.toml cannot say: suites/ is installed as the package `optbench.suites`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["optbench*"]), "optbench.suites"],
    package_dir={"optbench.suites": "suites"},
)
