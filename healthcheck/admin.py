"""The health history in the admin console. Django looks for its admin classes in this module."""

from healthcheck.history_admin import ConnectionSampleAdmin, IncidentAdmin, SampleAdmin

__all__ = ["ConnectionSampleAdmin", "IncidentAdmin", "SampleAdmin"]
