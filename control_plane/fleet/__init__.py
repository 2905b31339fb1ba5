"""Devices, device classes, sites and enrolment."""
