"""Only what pyproject.toml cannot say: which packages suites/ and claims/ are installed as."""

from setuptools import find_packages, setup

FOLDERS = {"optbench.suites": "suites", "optbench.claims.originals": "claims"}
INSIDE = [f"{name}.{inner}" for name, folder in FOLDERS.items() for inner in find_packages(folder)]

setup(packages=[*find_packages(include=["optbench*"]), *FOLDERS, *INSIDE], package_dir=FOLDERS)
