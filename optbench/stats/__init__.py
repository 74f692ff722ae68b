"""Statistics: DataFrame in, DataFrame out; no figures."""
