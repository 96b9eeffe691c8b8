"""Voice backends: one contract (`backend`), one table (`registry`), one file for each model."""
