"""The stages, one module each. A module offers `STAGE`; none imports another; none knows nox."""
