"""Owns which recordings belong together. Recordings of one group share drivers or minutes: no split divides one."""

HOME = {
    "USA_US101-14_1_T-1": "us101_free_a",
    "USA_US101-24_2_T-1": "us101_free_a",
    "USA_US101-1_1_T-1": "us101_free_a",
    "USA_US101-3_1_T-1": "us101_free_b",
    "USA_US101-3_3_T-1": "us101_free_b",
    "USA_US101-17_1_T-1": "us101_free_b",
    "USA_US101-26_1_T-1": "us101_free_c",
    "USA_US101-8_1_T-1": "us101_free_c",
    "USA_US101-11_4_T-1": "us101_free_d",
    "DEU_A9-3_1_T-1": "us101_free_d",  # seven cars at 27 m/s: far outside the rest, so never a group of its own
}
FIELD = {
    "USA_US101-10_1_T-1": "us101_dense_a",
    "USA_US101-15_1_T-1": "us101_dense_b",
    "USA_US101-5_1_T-1": "us101_dense_b",
    "USA_US101-4_1_T-1": "us101_dense_c",
    "USA_Peach-4_8_T-1": "us101_dense_c",  # five cars: too few to stand alone
    "USA_Lanker-1_1_T-1": "lankershim",
    "USA_Lanker-1_3_T-1": "lankershim",
}
FIELD_GROUPS = ("us101_dense_a", "us101_dense_b", "us101_dense_c", "lankershim")
HOME_GROUPS = ("us101_free_a", "us101_free_b", "us101_free_c", "us101_free_d")

# Where the workload's devices drive; the other dense groups are held out for the suite `field`. Of all pairs this one
# holds out the most vehicles (92 of 144); `study.py` takes every group as held out in turn.
SITES = ("us101_dense_a", "us101_dense_c")
HELD_OUT = tuple(group for group in FIELD_GROUPS if group not in SITES)
# Home drivers the first model never learned from; the suite `nominal`.
HELD_OUT_HOME = ("us101_free_c",)


def group_of(recording: str) -> str | None:
    """The leakage group of a recording by its name; None if this workload does not know it."""
    return HOME.get(recording) or FIELD.get(recording)
