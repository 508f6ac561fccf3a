"""Gatehouse on several hosts: the documented nginx, two hosts, PgBouncer in transaction mode, a primary, a standby."""
