"""A release going to devices in widening stages, judged by evidence."""
