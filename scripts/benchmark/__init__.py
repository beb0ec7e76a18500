"""The parts of scripts/bench: storage, data sets, contenders, measuring and the report."""
