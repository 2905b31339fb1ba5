"""The documents, each made from what is known and nothing else: no clock, no chance, so that twice gives the same.

`openlineage` writes run events, `in_toto` a statement, `ml_bom` a bill of materials. They are imported by name: their
libraries weigh something, and who only wants the words below (the command line) needs none of them.
"""

from control_plane.exports.domain.values import OF_A_VERSION, Format

__all__ = ["OF_A_VERSION", "Format"]
