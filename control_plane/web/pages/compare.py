"""Two versions of one model side by side: what they are, how they drive, simulated and in the field, where they ran."""

from collections import defaultdict

from control_plane.evaluation import service as evaluation
from control_plane.evaluation.schemas import SuiteComparison
from control_plane.fleet import service as fleet
from control_plane.kit.errors import Invalid
from control_plane.kit.http import Response
from control_plane.registry import service as registry
from control_plane.registry.schemas import VersionItem
from control_plane.rollout import service as rollout
from control_plane.rollout.schemas import RolloutItem
from control_plane.telemetry.schemas import RateLine
from control_plane.web import comparison
from control_plane.web.charts import WIDE
from control_plane.web.edge import PageCall, SeeCall, pages
from control_plane.web.figures import rate_picture
from control_plane.web.names import load_names, rate_of
from control_plane.web.pages.overview import field_sums

LOOKED_AT = 100
COMPARED_S = 10.0
compare = pages()


@compare.get("/compare")
async def show_comparison(call: SeeCall, a: str = "", b: str = "") -> Response:
    names = await load_names(call)
    a, b = _asked(list(names.versions), a, b)
    if not b:
        return call.show("compare_none.html", names=names)
    first, second = await registry.get_version(call.session, a), await registry.get_version(call.session, b)
    if first.model != second.model:
        raise Invalid(f"{first.model} and {second.model} are different models; compare versions of one")
    return call.show(
        "compare.html",
        names=names,
        model=await registry.get_model(call.session, first.model),
        pair=(first, second),
        choices=[v for v in names.versions.values() if v.model == first.model],
        **await _tables(call, first, second),
    )


def _asked(known: list[str], a: str, b: str) -> tuple[str, str]:
    """Return the two versions that are compared: the newest two where nothing else is asked."""
    newest = known[::-1]
    b = b or next((digest for digest in newest if digest != a), "")
    return a or next((digest for digest in newest if digest != b), ""), b


async def _tables(call: PageCall, a: VersionItem, b: VersionItem) -> dict[str, object]:
    names, pair = await load_names(call), (a, b)
    rates = [await rate_of(call, version) for version in pair]
    gates = [(await evaluation.list_gates(call.session, candidate=v.content_digest, limit=3)).items for v in pair]
    return {
        "tables": [
            comparison.Table("What they are", comparison.identity(names, a, b)),
            *(comparison.simulated(suite) for suite in await _suites(call, a.content_digest, b.content_digest)),
            comparison.Table("In the field", comparison.in_the_field(rates, await _sums(call))),
        ],
        "picture": rate_picture(names, list(zip(pair, rates, strict=True)), WIDE),
        "gates": gates,
        "between": [gate for gate in gates[1] if gate.champion == a.content_digest][:1],
        "lives": [await _life(call, version) for version in pair],
    }


async def _suites(call: PageCall, a: str, b: str) -> list[SuiteComparison]:
    return await call.desk.cache.get(("compared", a, b), COMPARED_S, lambda: evaluation.compare(call.session, a, b))


async def _sums(call: PageCall) -> dict[str, list[RateLine]]:
    found: dict[str, list[RateLine]] = defaultdict(list)
    for line in await field_sums(call):
        found[line.content_digest].append(line)
    return found


async def _life(call: PageCall, version: VersionItem) -> tuple[list[RolloutItem], list[tuple[str, int]]]:
    """Return the rollouts of a version, newest first, and where it runs now."""
    rollouts = (await rollout.list_rollouts(call.session, limit=LOOKED_AT)).items
    runs = [line for line in await fleet.summary(call.session) if line.active_content == version.content_digest]
    return (
        [item for item in rollouts if item.content_digest == version.content_digest][:10],
        sorted((f"{line.site} ({line.device_class})", line.devices) for line in runs),
    )
