"""The health history in the admin console. Django looks for its admin classes in this module."""

from healthcheck.history_admin import ConnectionSampleAdmin, IncidentAdmin, SampleAdmin
from healthcheck.operations.admin import RunAdmin

__all__ = ["ConnectionSampleAdmin", "IncidentAdmin", "RunAdmin", "SampleAdmin"]
