"""The door to the dataflow, for the routers."""

from connectors.pipeline import Health, Outcome, Pipeline, Receipt, RolledUp, Unavailable

__all__ = ["Health", "Outcome", "Pipeline", "Receipt", "RolledUp", "Unavailable"]
