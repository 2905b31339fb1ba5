"""The AWS provider's own schema of what infra/terraform/aws uses, read from its bindings for the Terraform CDK.

The registry that providers come from is not reached everywhere; the npm package @cdktf/provider-aws, which is generated
from the provider's schema, is. To bring the file up to date after a new resource:

    npm pack @cdktf/provider-aws@21.22.1 && python -m tests.support.aws_schema cdktf-provider-aws-21.22.1.tgz

Left out: descriptions, and whether what may be left out is computed then (it is taken to be).
"""

import json
import re
import sys
import tarfile
from pathlib import Path
from typing import Any, Final

AWS: Final = Path(__file__).parents[2] / "infra" / "terraform" / "aws"
SCHEMA: Final = Path(__file__).parents[1] / "fixtures" / "terraform" / "aws.json"
SIMPLE: Final = {"string": "string", "number": "number", "boolean": "bool", "boolean | cdktf.IResolvable": "bool"}
FIELD: Final = re.compile(r"\s*readonly \w+(\?)?: (.*);\s*", re.DOTALL)
ANCHOR: Final = re.compile(r"#(\w+) \w+#\w+\}")
GETTER: Final = re.compile(
    r"this\.get(String|Number|Boolean|List|NumberList|StringMap|\w+)Attribute\(['\"](\w+)['\"]\)"
)
MAP: Final = re.compile(r"new cdktf\.(String|Boolean|Number)Map\(this, ['\"](\w+)['\"]\)")
LISTS: Final = re.compile(r"new (\w+)List\(this, ['\"](\w+)['\"], (true|false)\)")
TYPES: Final = {"String": "string", "Number": "number", "Boolean": "bool", "List": ["list", "string"]}


class Binding:
    """One resource's two files: what may be written (index.d.ts), and what is computed (index.js)."""

    def __init__(self, declared: str, code: str) -> None:
        code = code.partition("//# sourceMappingURL")[0]  # half the file, one endless word
        found = re.findall(r"export interface (\w+)(?: extends [\w.]+)? \{\n(.*?)\n\}", declared, re.DOTALL)
        self.interfaces = dict(found)
        parts = re.split(r"^class (\w+) extends cdktf\.(\w+) \{$", code, flags=re.MULTILINE)
        self.classes = {parts[i]: parts[i + 2] for i in range(1, len(parts), 3)}
        mains = [parts[i] for i in range(1, len(parts), 3) if parts[i + 1].startswith("Terraform")]
        self.main = mains[0]
        self.sets = set(re.findall(r"(\w+): \{\s+value: [^\n]+\n\s+isBlock: \w+,\s+type: \"set\"", code))

    def block(self, interface: str, output: str) -> dict[str, Any]:
        """Return a block's schema, as `terraform providers schema -json` writes one."""
        attributes, blocks = self._computed(output), dict[str, Any]()
        for part in self.interfaces[interface].split("/**")[1:]:
            doc, _, rest = part.partition("*/")
            anchor, found = ANCHOR.search(doc), FIELD.fullmatch(rest)
            if anchor is None or found is None:
                continue  # `alias`, which is Terraform's own
            name, kind, optional = anchor[1], " ".join(found[2].split()), bool(found[1])
            inner = kind.removesuffix(" | cdktf.IResolvable").removesuffix("[]")
            if inner in self.interfaces and f"{name} block" in doc:
                many = "[]" in kind
                blocks[name] = {
                    "nesting_mode": self._nesting(name, many),
                    "block": self.block(inner, f"{inner}OutputReference"),
                    **({} if optional or name == "timeouts" else {"min_items": 1}),
                    **({} if many or name == "timeouts" else {"max_items": 1}),
                }
                attributes.pop(name, None)
            else:
                flags = {"optional": True, "computed": True} if optional else {"required": True}
                attributes[name] = {"type": self._type(name, kind), **flags}
        return {"attributes": attributes, "block_types": blocks}

    def _nesting(self, name: str, many: bool) -> str:
        if name == "timeouts":
            return "single"
        return "set" if many and name in self.sets else "list"

    def _type(self, name: str, kind: str) -> Any:
        if kind.startswith("{"):
            value = re.search(r"\]: ([^;]+);", kind)
            return ["map", SIMPLE.get(value[1].strip() if value else "", "dynamic")]
        if kind.endswith("[]") and kind[:-2] in SIMPLE:
            return ["set" if name in self.sets else "list", SIMPLE[kind[:-2]]]
        return SIMPLE.get(kind, "dynamic")

    def _computed(self, output: str) -> dict[str, Any]:
        found = {name: {"type": type_, "computed": True} for name, type_ in self._getters(output).items()}
        return dict[str, Any](found)

    def _getters(self, output: str) -> dict[str, Any]:
        """Return the types of a class's attributes that can be read."""
        code = self.classes.get(output, "")
        found: dict[str, Any] = {name: TYPES.get(kind, "dynamic") for kind, name in GETTER.findall(code)}
        found |= {name: ["map", TYPES[kind]] for kind, name in MAP.findall(code)}
        for inner, name, is_set in LISTS.findall(code):
            kind = ["object", self._getters(f"{inner}OutputReference")]
            found[name] = ["set" if is_set == "true" else "list", kind]
        return found


def _sort(value: Any) -> Any:
    return {key: _sort(each) for key, each in sorted(value.items())} if isinstance(value, dict) else value


def used() -> tuple[set[str], set[str]]:
    """Return the resources and the data sources that the module names."""
    text = "\n".join(path.read_text() for path in AWS.glob("*.tf"))
    resources = re.findall(r'^resource "(\w+)"', text, re.MULTILINE)
    return set(resources), set(re.findall(r'^data "(\w+)"', text, re.MULTILINE))


def read(package: Path) -> dict[str, Any]:
    """Return the schema of what the module uses.

    Raises:
        KeyError: the package does not know one of the resources.
    """
    resources, sources = used()
    folders = {name: name.removeprefix("aws_").replace("_", "-") for name in sorted(resources)}
    data = {name: f"data-{name.replace('_', '-')}" for name in sorted(sources)}
    texts = _texts(package, {"provider", *folders.values(), *data.values()})

    def one(folder: str) -> dict[str, Any]:
        binding = Binding(texts[f"{folder}/index.d.ts"], texts[f"{folder}/index.js"])
        return {"version": 0, "block": _sort(binding.block(f"{binding.main}Config", binding.main))}

    (version,) = set(re.findall(r"providerVersion: '([\d.]+)'", texts["provider/index.js"]))
    return {
        "source": f"{package.name.removesuffix('.tgz')} (hashicorp/aws {version})",
        "provider": one("provider"),
        "resource_schemas": {name: one(folder) for name, folder in folders.items()},
        "data_source_schemas": {name: one(folder) for name, folder in data.items()},
    }


def _texts(package: Path, folders: set[str]) -> dict[str, str]:
    """Return what these folders hold; the package is walked once, since it is packed as a whole."""
    found = dict[str, str]()
    with tarfile.open(package, "r|gz") as archive:
        for item in archive:
            name = item.name.removeprefix("package/lib/")
            if name.partition("/")[0] in folders and name.endswith(("index.js", "index.d.ts")):
                file = archive.extractfile(item)
                found[name] = file.read().decode() if file else ""
    return found


def main() -> None:
    SCHEMA.parent.mkdir(parents=True, exist_ok=True)
    SCHEMA.write_text(json.dumps(read(Path(sys.argv[1])), indent=1) + "\n")


if __name__ == "__main__":
    main()
