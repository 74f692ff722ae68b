"""Reports: stored rows in, Markdown and figures out. matplotlib is imported here and nowhere else."""
