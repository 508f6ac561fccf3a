"""The health history in the admin console. Django looks for its admin classes in this module."""

from healthcheck.operation_admin import RunAdmin

__all__ = ["RunAdmin"]
