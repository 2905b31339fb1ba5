"""A release going to a selection of devices, in widening stages, with a control group."""
