"""Where changes come from: an API server (`from_api`) or files (`from_files`). Programs see no difference.

Whatever it was made from, configuration arrives as one value, the ConfigSet. What reads values from bytes,
and what moves the bytes, are put together here and nowhere else.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from lbspeaker.model import Change, Kind, Synced
from lbspeaker.observe.documents import Loaded, from_files, load

if TYPE_CHECKING:
    from lbspeaker.shell.apiserver import ApiServer

__all__ = ["Loaded", "from_api", "from_files", "load"]


async def from_api(
    api: "ApiServer",
    kinds: Iterable[Kind],
    put: Callable[[Change | Synced], None],
    *,
    namespace: str,
    group: str = "lbspeaker.io",
    effective: bool,
) -> None:
    """Tell every change of `kinds` to `put`, for ever; Synced of a kind once all of it was told.

    Leases, Secrets and configuration are those of `namespace`. The configuration is what the controller has
    published (`effective`), or the objects of `group` that people write. Trouble with the server is logged
    and outlived; nothing that was told is taken back because of it.
    """
    from lbspeaker.observe import cluster  # its HTTP client is not for those who only read files

    await cluster.from_api(api, kinds, put, namespace=namespace, group=group, effective=effective)
