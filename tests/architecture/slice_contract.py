"""An import-linter contract: a slice reaches another slice only through that slice's public modules."""

from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class SlicePublicApi(Contract):
    container = fields.StringField()
    public = fields.ListField(subfield=fields.StringField())
    open_slices = fields.ListField(subfield=fields.StringField(), required=False, default=[])
    outside = fields.ListField(subfield=fields.StringField(), required=False, default=[])

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        del verbose
        broken = [
            (importer, module)
            for slice_ in graph.find_children(str(self.container))
            if graph.find_children(slice_) and slice_.rsplit(".", 1)[-1] not in self._names("open_slices")
            for module in graph.find_descendants(slice_)
            if module[len(slice_) + 1 :].split(".")[0] not in self._names("public")
            for importer in graph.find_modules_that_directly_import(module)
            if not importer.startswith((slice_ + ".", "tests."))
            and importer not in self._names("outside")
            and importer != slice_
        ]
        return ContractCheck(kept=not broken, metadata={"broken": sorted(broken)})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported in check.metadata["broken"]:
            output.print_error(f"{importer} -> {imported}")

    def _names(self, field: str) -> list[str]:
        names: Any = getattr(self, field)
        return list(names)
